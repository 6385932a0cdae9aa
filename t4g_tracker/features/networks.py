"""The shared part of frozen networks: running up to one module, segment by segment, in half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from t4g_tracker.coordinates import Size, centred_offset
from t4g_tracker.datatypes import Empty, FeatureGrid
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features.segments import segment_plan
from t4g_tracker.hardware import pick_precision
from t4g_tracker.stage_log import Progress


def check_frames(frames: Tensor) -> None:
    """Raise ``ValueError`` for anything but (T, 3, H, W) uint8 frames."""
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames must be (T, 3, H, W) uint8, got {tuple(frames.shape)} {frames.dtype}")


def dtype_for(half: bool, device: torch.device) -> torch.dtype:
    """Choose the dtype of a network.

    Half precision is float16; on a CPU it is bfloat16, or float32 if the CPU lacks the instructions,
    since without them bfloat16 convolutions take many times as long as float32 ones.
    """
    if not half:
        return torch.float32
    return pick_precision("auto", device) if device.type == "cpu" else torch.float16


def in_float16(values: Tensor, folder: Path, stage: str) -> Tensor:
    """Convert features to float16 on the CPU.

    Args:
        values: Features in any floating dtype, on any device.
        folder: Folder of the weights, for the error message.
        stage: The settings in use, such as "features.diffusion", for the error message.

    Raises:
        WeightsError: If they are outside the range of float16 or of the dtype they were computed in.
    """
    half = values.to("cpu", torch.float16)
    if not half.isfinite().all():
        raise WeightsError(
            f"{stage}.model: {folder} gives features that {values.dtype} or float16 cannot hold;"
            f" try --set {stage}.half=false, or other weights"
        )
    return half


def segment_features(
    frames: Tensor,
    segment_frames: int,
    extract_segment: Callable[[Tensor, slice], Tensor],
    progress: Progress | None,
    empty: Empty = torch.empty,
) -> Tensor:
    """Extract the features of a video segment by segment; those of borrowed frames are dropped.

    Args:
        frames: (T, 3, H, W) uint8.
        segment_frames: Frames that the network sees at once.
        extract_segment: Takes the frames (N, 3, H, W) of one segment and which of them to keep;
            returns the features (K, C, h, w) of those, float16 on the CPU.
        progress: Called with (frames done, frames in all) after each segment.
        empty: Makes the result.

    Returns:
        (T, C, h, w) float16 on the CPU.
    """
    values: Tensor | None = None
    for segment in segment_plan(len(frames), segment_frames):
        features = extract_segment(frames[list(segment.frames)], segment.keep)
        if values is None:
            values = empty(len(frames), *features.shape[1:], dtype=torch.float16)
        values[list(segment.kept_frames)] = features
        if progress is not None:
            progress(segment.kept_frames[-1] + 1, len(frames))
    assert values is not None
    return values


def tiled_grid(values: Tensor, size: Size, block_setting: str) -> FeatureGrid:
    """Make a feature grid of an up-block's output (T, C, h, w), whose cells tile the frame from edge to edge.

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
    """Call ``run`` until ``module`` has run inside it, and return that output; nothing later is computed."""
    hook = module.register_forward_hook(_stop_here)
    try:
        run()
    except _ReachedError as reached:
        return reached.output
    finally:
        hook.remove()
    raise AssertionError("the module did not run")


class _ReachedError(Exception):
    """Ends a forward pass as soon as one module has run."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _stop_here(module: nn.Module, inputs: Any, output: Any) -> NoReturn:
    raise _ReachedError(output)


def scaled_latents(vae: Any, frames: Tensor) -> Tensor:
    """Encode uint8 frames to scaled latents (N, C, H/8, W/8), one at a time to bound memory."""
    pixels = frames.to(vae.device, vae.dtype) / 127.5 - 1
    modes = [
        vae.encode(frame[None].contiguous(memory_format=torch.channels_last)).latent_dist.mode()
        for frame in pixels
    ]
    latents: Tensor = torch.cat(modes) * vae.config.scaling_factor
    return latents
