"""The noise that videos start from: sampled on the CPU, so that it is the same for all models and devices."""

from __future__ import annotations

import torch
from torch import Tensor

from t4g_tracker.seeds import generator_for


def starting_noise(seed: int, shape: tuple[int, int, int, int]) -> Tensor:
    """Sample the latents (N, c, h, w) of unit variance that a video starts from.

    They depend on the seed and the shape alone: models with latents of one shape start alike.
    """
    return torch.randn(shape, generator=generator_for(f"generation latents {seed}"))


def picture_noise(seed: int) -> torch.Generator:
    """Make the generator of the noise on the picture, which is the same for all models."""
    return generator_for(f"generation picture {seed}")
