"""Fitting the last convolution of a trained UNet to the denoising loss alone.

The denoising loss is the squared error of the UNet's output, which is linear in the last convolution.
So the best convolution for its inputs is a linear regression, without steps or learning rate.
Track4Gen's features are taken before that convolution and do not change.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from t4g_tracker.errors import ConfigError
from t4g_tracker.generation.regression import neighbourhoods, ridge_regression, rows
from t4g_tracker.training.track4gen.denoising import ideal_output, sample_sigma
from t4g_tracker.training.track4gen.objective import Track4GenObjective

LEVELS = 3  # noise levels of each stretch of frames
RIDGE = 1e-4  # as a share of the mean square of the convolution's inputs


@torch.no_grad()
def fit_last_convolution(objective: Track4GenObjective, stretches: Iterable[Tensor]) -> None:
    """Replace the UNet's last convolution by the one with the least denoising loss.

    Noise comes from PyTorch's global generator; its levels are as in training without ``low_noise_share``.

    Args:
        objective: The objective, on the CPU.
        stretches: (N, 3, H, W) uint8 frames each, N being the number that the UNet sees at once.

    Raises:
        ConfigError: If there are no stretches.
    """
    last, config = objective.unet.conv_out, objective.config
    inputs = last.weight[0].numel() + 1
    square = torch.zeros(inputs, inputs, dtype=torch.float64)
    product = torch.zeros(inputs, len(last.weight), dtype=torch.float64)
    read: list[Tensor] = []  # inputs of the last convolution
    hook = last.register_forward_pre_hook(lambda module, arguments: read.append(arguments[0]))
    try:
        for frames in stretches:
            pixels = (frames.float() / 127.5 - 1)[None]
            latents = objective.encode(pixels)
            for _ in range(LEVELS):
                sigma = sample_sigma(1, config.sigma_mean, config.sigma_spread)
                noisy = latents + sigma.view(-1, 1, 1, 1, 1) * torch.randn_like(latents)
                keep = (torch.rand(1) >= config.drop_image).float()
                objective.run_unet(pixels, noisy, sigma, keep)
                patches = neighbourhoods(read.pop().float())
                target = rows(ideal_output(noisy, latents, sigma)[0].flatten(2))
                square += patches.mT @ patches
                product += patches.mT @ target
    finally:
        hook.remove()
    if not square.any():
        raise ConfigError("--clips must be at least 1: there are no clips to fit to")
    ridge = RIDGE * float(square.diagonal().mean())
    weights = ridge_regression(square, product, ridge).mT.to(last.weight.dtype)
    last.weight.copy_(weights[:, :-1].reshape(last.weight.shape))
    last.bias.copy_(weights[:, -1])
