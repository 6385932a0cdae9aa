"""The diffusion half of the objective, as Stable Video Diffusion is trained: EDM with v-prediction.

Noise levels ``sigma`` are in standard deviations of the latents. The network's answer F and
the noisy latents x give the denoised latents D = x / (sigma^2 + 1) - sigma F / sqrt(sigma^2 + 1).

Source: Karras et al., arXiv:2206.00364; Stable Video Diffusion, arXiv:2311.15127, which the
``v_prediction`` of diffusers' EulerDiscreteScheduler inverts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sample_sigma(count: int, mean: float, spread: float, generator: torch.Generator | None = None) -> Tensor:
    """(count,) random noise levels whose logarithm is normal with this mean and standard deviation."""
    device = None if generator is None else generator.device
    return torch.exp(mean + spread * torch.randn(count, generator=generator, device=device))


def _per_clip(sigma: Tensor) -> Tensor:
    return sigma.view(-1, 1, 1, 1, 1)


def network_input(noisy: Tensor, sigma: Tensor) -> Tensor:
    """Noisy latents (B, F, c, h, w) scaled to unit variance for noise levels (B,)."""
    return noisy / (_per_clip(sigma).square() + 1).sqrt()


def network_time(sigma: Tensor) -> Tensor:
    """How the network is given noise levels (B,): a quarter of their logarithm."""
    return 0.25 * sigma.log()


def denoised(noisy: Tensor, answer: Tensor, sigma: Tensor) -> Tensor:
    """Denoised latents from noisy ones and the network's answer, all (B, F, c, h, w)."""
    sigma = _per_clip(sigma)
    return noisy / (sigma.square() + 1) - answer * sigma / (sigma.square() + 1).sqrt()


def best_answer(noisy: Tensor, latents: Tensor, sigma: Tensor) -> Tensor:
    """The network's answer from which ``denoised`` makes these latents, all (B, F, c, h, w)."""
    sigma = _per_clip(sigma)
    return (noisy / (sigma.square() + 1) - latents) * (sigma.square() + 1).sqrt() / sigma


def denoising_loss(found: Tensor, latents: Tensor, sigma: Tensor) -> Tensor:
    """Squared error of denoised latents, weighted so that all noise levels count alike.

    The weight (sigma^2 + 1) / sigma^2 makes it the squared error of the network's own
    answer: about 1 for an untrained network, at any level.

    Args:
        found: (B, F, c, h, w) denoised latents.
        latents: (B, F, c, h, w) those without noise.
        sigma: (B,) noise levels.

    Returns:
        (B,) loss.
    """
    weight = (sigma.square() + 1) / sigma.square()
    return weight * (found.float() - latents.float()).square().flatten(1).mean(1)
