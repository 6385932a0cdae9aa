"""What every frozen network here shares: cut short at one module, segment by segment, in half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from t4g_tracker.coordinates import Size, centred_offset
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features.segments import segment_plan
from t4g_tracker.hardware import pick_precision
from t4g_tracker.stage_log import Progress


def check_frames(frames: Tensor) -> None:
    """Refuse anything but (T, 3, H, W) uint8 frames with a ``ValueError``."""
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames must be (T, 3, H, W) uint8, got {tuple(frames.shape)} {frames.dtype}")


def dtype_for(half: bool, device: torch.device) -> torch.dtype:
    """What a network runs in: half precision is float16, on a CPU bfloat16 if it has the instructions.

    Without them convolutions in bfloat16 take many times as long as in float32.
    """
    if not half:
        return torch.float32
    return pick_precision("auto", device) if device.type == "cpu" else torch.float16


def in_float16(values: Tensor, folder: Path, stage: str) -> Tensor:
    """Features as they are kept, float16 on the CPU.

    Args:
        values: Features in any floating dtype, on any device.
        folder: Where the weights are, for the error message.
        stage: The settings in use, such as "features.diffusion", for the error message.

    Raises:
        WeightsError: If float16, or the dtype they were computed in, cannot hold them.
    """
    kept = values.to("cpu", torch.float16)
    if not kept.isfinite().all():
        raise WeightsError(
            f"{stage}.model: {folder} gives features that {values.dtype} or float16 cannot hold;"
            f" try --set {stage}.half=false, or other weights"
        )
    return kept


def segment_features(
    frames: Tensor,
    segment_frames: int,
    describe: Callable[[Tensor, slice], Tensor],
    progress: Progress | None,
) -> Tensor:
    """Describe a video segment by segment; the features of borrowed frames are dropped.

    Args:
        frames: (T, 3, H, W) uint8.
        segment_frames: Frames the network sees at once.
        describe: From one segment's frames (N, 3, H, W), and which of them to keep, to the
            features of those (K, C, h, w), float16 on the CPU.
        progress: Called with (frames done, frames in all) after each segment.

    Returns:
        (T, C, h, w) float16 on the CPU.
    """
    values: Tensor | None = None
    for segment in segment_plan(len(frames), segment_frames):
        kept = describe(frames[list(segment.frames)], segment.keep)
        if values is None:
            values = torch.empty(len(frames), *kept.shape[1:], dtype=torch.float16)
        values[list(segment.kept_frames)] = kept
        if progress is not None:
            progress(segment.kept_frames[-1] + 1, len(frames))
    assert values is not None
    return values


def tiled_grid(values: Tensor, size: Size, block_setting: str) -> FeatureGrid:
    """Where the cells of an up-block (T, C, h, w) lie: they tile the frame from edge to edge.

    Raises:
        ConfigError: If they are not square at this working size.
    """
    stride_px = size[0] / values.shape[-2]
    if size[1] / values.shape[-1] != stride_px:
        raise ConfigError(
            f"{block_setting} gives {values.shape[-2]}x{values.shape[-1]} cells for"
            f" {size[0]}x{size[1]} pixels, which are not square; set working_size.multiple=64"
        )
    return FeatureGrid(values, stride_px, centred_offset(stride_px), size)


def output_of(module: nn.Module, run: Callable[[], Any]) -> Any:
    """What ``module`` answers while ``run`` is under way; nothing after it is computed."""
    hook = module.register_forward_hook(_stop_here)
    try:
        run()
    except _ReachedError as reached:
        return reached.output
    finally:
        hook.remove()
    raise AssertionError("the run ended without passing the module")


class _ReachedError(Exception):
    """Ends a forward pass as soon as the wanted module has answered."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _stop_here(module: nn.Module, inputs: Any, output: Any) -> NoReturn:
    raise _ReachedError(output)


def scaled_latents(vae: Any, frames: Tensor) -> Tensor:
    """Latents (N, C, H/8, W/8) of uint8 frames times the VAE's factor, one at a time to bound memory."""
    pixels = frames.to(vae.device, vae.dtype) / 127.5 - 1
    modes = [
        vae.encode(frame[None].contiguous(memory_format=torch.channels_last)).latent_dist.mode()
        for frame in pixels
    ]
    latents: Tensor = torch.cat(modes) * vae.config.scaling_factor
    return latents
