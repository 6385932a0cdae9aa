"""Rows of pictures that show what a video diffusion model makes of a video, for its model card."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import StableVideoDiffusionPipeline
from torch import Tensor

from t4g_tracker.features.refiner import Refiner
from t4g_tracker.generation.decoding import Decode, LinearReading, own_decoder
from t4g_tracker.generation.pipeline import generate
from t4g_tracker.generation.settings import GenerationConfig
from t4g_tracker.training.track4gen.denoising import denoised
from t4g_tracker.training.track4gen.objective import ObjectiveConfig, Track4GenObjective
from t4g_tracker.visualize.painting import INK, PAPER, write_text

NOISE = 1.0
LABEL_PX = 22


@torch.no_grad()
def paint_strip(
    pipeline: StableVideoDiffusionPipeline, frames: Tensor, seed: int = 0, read_linearly: bool = False
) -> dict[str, Tensor]:
    """Make rows of pictures (N, 3, H, W) uint8, by their names.

    Args:
        pipeline: A pipeline in Stable Video Diffusion's layout, float32.
        frames: (N, 3, H, W) uint8, N being the number that the UNet sees at once.
        seed: Seed of the noise.
        read_linearly: Decode latents by ``LinearReading`` instead of the model's decoder.
    """
    generator = torch.Generator().manual_seed(seed)
    latents, noisy, clean = _denoise(pipeline, frames, generator, seed)
    generated = _generate(pipeline, frames, generator)
    if read_linearly:
        decode: Decode = LinearReading(latents, frames)
        first_row = "latents, read linearly"
    else:
        decode = own_decoder(pipeline.vae)
        first_row = "autoencoder"
    return {
        "video": frames,
        first_row: decode(latents),
        "noise of level 1": decode(noisy),
        "denoised": decode(clean),
        "generated from the first frame": decode(generated),
    }


def _denoise(
    pipeline: StableVideoDiffusionPipeline, frames: Tensor, generator: torch.Generator, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute scaled latents (N, c, h, w) of the frames: clean, with noise ``NOISE``, and denoised."""
    pixels = (frames.float() / 127.5 - 1)[None]
    objective = Track4GenObjective(pipeline, Refiner(1), ObjectiveConfig(correspondence=0), len(frames))
    latents = objective.encode(pixels)
    noisy = latents + NOISE * torch.randn(latents.shape, generator=generator)
    sigma = torch.tensor([NOISE])
    with torch.random.fork_rng(devices=[]):  # noise on the first frame comes from PyTorch's global generator
        torch.manual_seed(seed)
        output, _ = objective.run_unet(pixels, noisy, sigma, torch.ones(1))
    return latents[0], noisy[0], denoised(noisy, output, sigma)[0]


def _generate(pipeline: StableVideoDiffusionPipeline, frames: Tensor, generator: torch.Generator) -> Tensor:
    """Generate a video from the first frame: scaled latents (N, c, h, w)."""
    pipeline.set_progress_bar_config(disable=True)
    config = GenerationConfig(max_guidance=1.0)
    return generate(pipeline, frames[0], len(frames), config, generator).latents


def labelled(rows: dict[str, Tensor]) -> np.ndarray:
    """Stack rows of pictures (N, 3, H, W) uint8, each below its name."""
    parts = []
    for name, row in rows.items():
        pictures = np.concatenate(list(row.permute(0, 2, 3, 1).numpy()), axis=1)
        caption = np.full((LABEL_PX, pictures.shape[1], 3), PAPER, np.uint8)
        write_text(caption, name, (4, LABEL_PX / 2), LABEL_PX - 6, INK)
        parts += [caption, pictures]
    return np.concatenate(parts, axis=0)
