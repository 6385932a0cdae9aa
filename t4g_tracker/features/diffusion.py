"""Features from inside a video diffusion UNet: Track4Gen, or plain Stable Video Diffusion.

SVD's own pipeline starts one denoising step on the lightly noised frames, as if it were generating
them, and is stopped once the chosen block has run.

Source: Track4Gen, arXiv:2412.06016; Stable Video Diffusion, arXiv:2311.15127.
"""

from __future__ import annotations

import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from t4g_tracker.datatypes import Empty, FeatureGrid
from t4g_tracker.features.diffusion_folder import check
from t4g_tracker.features.diffusion_weights import load_model, load_refiner
from t4g_tracker.features.networks import (
    check_frames,
    dtype_for,
    in_float16,
    output_of,
    scaled_latents,
    segment_features,
    tiled_grid,
)
from t4g_tracker.features.settings import DiffusionConfig, Kind
from t4g_tracker.stage_log import Progress


def extract(
    frames: Tensor,
    config: DiffusionConfig,
    *,
    kind: Kind,
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
    empty: Empty = torch.empty,
) -> FeatureGrid:
    """Compute the feature grid of a video, segment by segment.

    Every frame's features come from its own segment; those of borrowed frames are dropped.
    Noise is sampled segment by segment from one generator on the CPU, so a segment's
    features do not depend on later ones. Besides the result, memory holds one segment.

    Args:
        frames: (T, 3, H, W) uint8 RGB at the working size.
        config: Which model, block and conditioning.
        kind: "track4gen" refines the features, "svd" does not.
        device: Where the model runs.
        seed: Of the noise. The same seed on the same machine gives the same features.
        progress: Called with (frames done, frames in all) after each segment.
        empty: Makes the result.

    Returns:
        ``FeatureGrid`` of T frames, float16 on the CPU. SVD's block 2 at 320x576 gives
        640 channels on 40x72 cells: stride 8 px, offset 3.5 px.

    Raises:
        WeightsError: If the weights are missing, do not fit, or give features outside the
            range of float16.
        ConfigError: If the block's cells are not square at this working size.
        ValueError: If ``frames`` is not (T, 3, H, W) uint8.
    """
    check_frames(frames)
    folder = check(config, kind)
    dtype = dtype_for(config.half, device)
    pipeline = load_model(folder, dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)
    refine = kind == "track4gen" and config.refiner
    refiner = load_refiner(folder, dtype).to(device) if refine else nn.Identity()
    generator = torch.Generator().manual_seed(seed)

    def extract_segment(segment: Tensor, keep: slice) -> Tensor:
        raw = _block_output(pipeline, segment, config, generator)
        return in_float16(refiner(raw[keep]), folder, "features.diffusion")

    segment_frames = config.segment_frames or int(pipeline.unet.config.num_frames)
    with torch.no_grad():
        values = segment_features(frames, segment_frames, extract_segment, progress, empty)
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    return tiled_grid(values, size, f"features.diffusion.block={config.block}")


def _block_output(
    pipeline: StableVideoDiffusionPipeline,
    frames: Tensor,
    config: DiffusionConfig,
    generator: torch.Generator,
) -> Tensor:
    """Compute the output (N, C, h, w) of one up-block for one segment (N, 3, H, W).

    SVD's own pipeline does the conditioning (CLIP and VAE of the first frame, micro-conditioning)
    and the EDM scaling of ``noise_sigma``. Without guidance one pass is enough.
    """
    height, width = frames.shape[-2:]
    sigmas = [config.noise_sigma, 0.0]
    pipeline.scheduler.set_timesteps(sigmas=sigmas)  # sets init_noise_sigma, by which the pipeline multiplies
    latents = scaled_latents(pipeline.vae, frames)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    noisy = (latents + config.noise_sigma * noise) / pipeline.scheduler.init_noise_sigma
    image = Image.fromarray(frames[0].permute(1, 2, 0).contiguous().cpu().numpy())

    def denoise() -> None:
        pipeline(
            image=image,
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

    output: Tensor = output_of(pipeline.unet.up_blocks[config.block], denoise)
    return output
