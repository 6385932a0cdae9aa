"""The diffusion half of the objective, as in the training of Stable Video Diffusion: EDM, v-prediction.

Noise levels ``sigma`` are in standard deviations of the latents. The network's output F and
the noisy latents x give the denoised latents D = x / (sigma^2 + 1) - sigma F / sqrt(sigma^2 + 1).

Source: Karras et al., arXiv:2206.00364; Stable Video Diffusion, arXiv:2311.15127, which the
``v_prediction`` of diffusers' EulerDiscreteScheduler inverts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sample_sigma(count: int, mean: float, spread: float, generator: torch.Generator | None = None) -> Tensor:
    """Sample noise levels (count,) whose logarithm is normal with this mean and standard deviation."""
    device = None if generator is None else generator.device
    return torch.exp(mean + spread * torch.randn(count, generator=generator, device=device))


def _per_clip(sigma: Tensor) -> Tensor:
    return sigma.view(-1, 1, 1, 1, 1)


def network_input(noisy: Tensor, sigma: Tensor) -> Tensor:
    """Scale noisy latents (B, F, c, h, w) of noise levels (B,) to unit variance."""
    return noisy / (_per_clip(sigma).square() + 1).sqrt()


def network_time(sigma: Tensor) -> Tensor:
    """Convert noise levels (B,) to the network's time: a quarter of their logarithm."""
    return 0.25 * sigma.log()


def denoised(noisy: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
    """Compute denoised latents from noisy ones and the network's output, all (B, F, c, h, w)."""
    sigma = _per_clip(sigma)
    return noisy / (sigma.square() + 1) - output * sigma / (sigma.square() + 1).sqrt()


def ideal_output(noisy: Tensor, latents: Tensor, sigma: Tensor) -> Tensor:
    """Compute the network's output for which ``denoised`` returns ``latents``, all (B, F, c, h, w)."""
    sigma = _per_clip(sigma)
    return (noisy / (sigma.square() + 1) - latents) * (sigma.square() + 1).sqrt() / sigma


def denoising_loss(restored: Tensor, latents: Tensor, sigma: Tensor) -> Tensor:
    """Compute the squared error of denoised latents, weighted so that all noise levels count the same.

    The weight (sigma^2 + 1) / sigma^2 makes it the squared error of the network's output: about 1
    for an untrained network, at any level.

    Args:
        restored: (B, F, c, h, w) denoised latents.
        latents: (B, F, c, h, w) latents without noise.
        sigma: (B,) noise levels.

    Returns:
        (B,) loss.
    """
    weight = (sigma.square() + 1) / sigma.square()
    return weight * (restored.float() - latents.float()).square().flatten(1).mean(1)
