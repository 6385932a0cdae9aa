"""One video: Stable Video Diffusion's own pipeline, from a picture and given noise to latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image
from torch import Tensor

from t4g_tracker.generation.embed import last_output
from t4g_tracker.generation.settings import GenerationConfig
from t4g_tracker.stage_log import Progress


@dataclass(frozen=True)
class Generated:
    """What the pipeline made."""

    latents: Tensor  # (N, c, h, w) float32 on the CPU, scaled as the UNet sees them
    last_sigma: float  # noise level of the last denoising step, in standard deviations of latents
    features: Tensor | None  # (N, C, h, w) float32 on the CPU: what an up-block gave in that step


@torch.no_grad()
def generate(
    pipeline: StableVideoDiffusionPipeline,
    picture: Tensor,
    frames: int,
    config: GenerationConfig,
    generator: torch.Generator,
    noise: Tensor | None = None,
    block: int | None = None,
    progress: Progress | None = None,
) -> Generated:
    """Generate a video that starts from a picture.

    Args:
        pipeline: In Stable Video Diffusion's layout, on any device.
        picture: (3, H, W) uint8 at the size of the frames.
        frames: N.
        config: Steps, guidance and conditioning. Its size and ``frames`` are not looked at.
        generator: Of the noise on the picture, on the CPU; then of the starting noise if none is given.
        noise: (N, c, h, w) of unit variance to start from.
        block: UNet up-block whose output in the last step is wanted. With guidance it runs twice, and the
            second, which sees the picture, is taken.
        progress: Called with (steps done, steps in all).

    Returns:
        The latents, and features if a block is named.
    """

    def step_done(_: Any, step: int, time: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if progress is not None:
            progress(step + 1, config.steps)
        return {}

    if progress is not None:
        progress(0, config.steps)
    module = pipeline.unet.up_blocks[block or 0]
    with last_output(module, wanted=block is not None) as outputs:
        latents = pipeline(
            image=Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()),
            height=picture.shape[-2],
            width=picture.shape[-1],
            num_frames=frames,
            num_inference_steps=config.steps,
            min_guidance_scale=config.min_guidance,
            max_guidance_scale=config.max_guidance,
            fps=config.fps,
            motion_bucket_id=config.motion_bucket_id,
            noise_aug_strength=config.noise_aug_strength,
            generator=generator,
            latents=None if noise is None else noise[None].to(pipeline.unet.dtype),
            output_type="latent",
            callback_on_step_end=step_done,
        ).frames[0]
    features = outputs[0][-frames:].float().cpu() if outputs else None
    last_sigma = float(pipeline.scheduler.sigmas[config.steps - 1])
    return Generated(latents.float().cpu(), last_sigma, features)
