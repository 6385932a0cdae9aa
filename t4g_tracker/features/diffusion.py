"""Features from inside a video diffusion UNet: Track4Gen, or plain Stable Video Diffusion.

The frames themselves, lightly noised, take the place of a half-generated video in SVD's
own pipeline; one denoising step is begun, and cut short once the wanted block has answered.

Source: Track4Gen, arXiv:2412.06016; Stable Video Diffusion, arXiv:2311.15127.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from diffusers import AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from t4g_tracker.coordinates import centred_offset
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features.diffusion_config import SVD_MODEL, DiffusionConfig, Kind
from t4g_tracker.features.diffusion_weights import check_folder, find_folder, load_pipeline, load_refiner
from t4g_tracker.features.segments import segment_plan

Progress = Callable[[int, int], None]


def check(config: DiffusionConfig, kind: Kind) -> Path:
    """Make sure that the weights are there and fit together, without loading them.

    To be called before long work. A hub name is downloaded here.

    Args:
        config: Which model.
        kind: "track4gen" needs a model of the user's own, with ``refiner/`` unless
            ``config.refiner`` is off; "svd" never looks at a refiner.

    Returns:
        The folder the weights are in.

    Raises:
        WeightsError: If a part is missing, does not fit, or cannot be downloaded.
    """
    if kind == "track4gen" and not config.model:
        raise WeightsError(
            "features.diffusion.model is empty, and Track4Gen's weights are not published; give the folder of"
            " weights trained here with --set features.diffusion.model=FOLDER, or set features.extractor=svd"
        )
    need_refiner = kind == "track4gen" and config.refiner
    folder = find_folder(config.model or SVD_MODEL, need_refiner)
    check_folder(folder, config.block, need_refiner)
    return folder


def extract(
    frames: Tensor,
    config: DiffusionConfig,
    *,
    kind: Kind,
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
) -> FeatureGrid:
    """Compute the feature grid of a video, segment by segment.

    Every frame's features come from its own segment; those of borrowed frames are dropped.
    Noise is drawn segment after segment from one generator on the CPU, so a segment's
    features do not depend on what follows it. Memory is that of one segment, besides the result.

    Args:
        frames: (T, 3, H, W) uint8 RGB at the working size.
        config: Which model, block and conditioning.
        kind: "track4gen" refines the features, "svd" does not.
        device: Where the model runs.
        seed: Of the noise. The same seed on the same machine gives the same features.
        progress: Called with (frames done, frames in all) after each segment.

    Returns:
        ``FeatureGrid`` of T frames, float16 on the CPU. SVD's block 2 at 320x576 gives
        640 channels on 40x72 cells: stride 8 px, offset 3.5 px.

    Raises:
        WeightsError: If the weights are missing, do not fit, or give features that float16
            cannot hold.
        ConfigError: If the block's cells are not square at this working size.
        ValueError: If ``frames`` is not (T, 3, H, W) uint8.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames must be (T, 3, H, W) uint8, got {tuple(frames.shape)} {frames.dtype}")
    folder = check(config, kind)
    dtype = _dtype(config.half, device)
    pipeline = load_pipeline(folder, dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)
    refine = kind == "track4gen" and config.refiner
    refiner = load_refiner(folder, dtype).to(device) if refine else nn.Identity()
    generator = torch.Generator().manual_seed(seed)
    values: Tensor | None = None
    with torch.no_grad():
        for segment in segment_plan(
            len(frames), config.segment_frames or int(pipeline.unet.config.num_frames)
        ):
            seen = _block_output(pipeline, frames[list(segment.frames)], config, generator)
            kept = refiner(seen[segment.keep]).to("cpu", torch.float16)
            if not kept.isfinite().all():
                raise WeightsError(
                    f"features.diffusion.model: {folder} gives features that {dtype} or float16 cannot hold;"
                    f" try --set features.diffusion.half=false, or other weights"
                )
            if values is None:
                values = torch.empty(len(frames), *kept.shape[1:], dtype=torch.float16)
            values[list(segment.kept_frames)] = kept
            if progress is not None:
                progress(segment.kept_frames[-1] + 1, len(frames))
    assert values is not None
    return _as_grid(values, (frames.shape[-2], frames.shape[-1]), config.block)


def _dtype(half: bool, device: torch.device) -> torch.dtype:
    if not half:
        return torch.float32
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def _as_grid(values: Tensor, size: tuple[int, int], block: int) -> FeatureGrid:
    """Where the cells of a block lie: they tile the frame from edge to edge."""
    stride_px = size[0] / values.shape[-2]
    if size[1] / values.shape[-1] != stride_px:
        raise ConfigError(
            f"features.diffusion.block={block} gives {values.shape[-2]}x{values.shape[-1]} cells for"
            f" {size[0]}x{size[1]} pixels, which are not square; set working_size.multiple=64"
        )
    return FeatureGrid(values, stride_px, centred_offset(stride_px), size)


class _BlockReachedError(Exception):
    """Ends the denoising step as soon as the wanted block has answered."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


def _stop_here(module: nn.Module, inputs: Any, output: Tensor) -> NoReturn:
    raise _BlockReachedError(output)


def _block_output(
    pipeline: StableVideoDiffusionPipeline,
    frames: Tensor,
    config: DiffusionConfig,
    generator: torch.Generator,
) -> Tensor:
    """What one up-block makes of one segment (N, 3, H, W): features (N, C, h, w).

    SVD's own pipeline does the conditioning (CLIP and VAE of the first frame, micro-conditioning)
    and the EDM scaling of ``noise_sigma``; there is no guidance, so it is one pass.
    """
    height, width = frames.shape[-2:]
    sigmas = [config.noise_sigma, 0.0]
    pipeline.scheduler.set_timesteps(sigmas=sigmas)  # settles the factor that the pipeline multiplies by
    latents = _latents(pipeline.vae, frames)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    noisy = (latents + config.noise_sigma * noise) / pipeline.scheduler.init_noise_sigma
    hook = pipeline.unet.up_blocks[config.block].register_forward_hook(_stop_here)
    try:
        pipeline(
            image=Image.fromarray(frames[0].permute(1, 2, 0).contiguous().cpu().numpy()),
            height=height,
            width=width,
            num_frames=len(frames),
            sigmas=sigmas,
            max_guidance_scale=1.0,
            fps=config.fps,
            motion_bucket_id=config.motion_bucket_id,
            noise_aug_strength=config.noise_aug_strength,
            generator=generator,
            latents=noisy[None].to(pipeline.unet.dtype),
            output_type="latent",
        )
    except _BlockReachedError as reached:
        return reached.output
    finally:
        hook.remove()
    raise AssertionError("the denoising step ended without passing the block")


def _latents(vae: AutoencoderKLTemporalDecoder, frames: Tensor) -> Tensor:
    """Scaled latents (N, 4, H/8, W/8) of uint8 frames, one at a time to bound memory."""
    modes = [
        vae.encode(frame[None].to(vae.device, vae.dtype) / 127.5 - 1).latent_dist.mode() for frame in frames
    ]
    latents: Tensor = torch.cat(modes) * vae.config.scaling_factor
    return latents
