"""One optimisation step: learning rate, gradient, moving average."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn


def one_cycle(progress: float, warm_up: float) -> float:
    """Compute the factor on the learning rate: a linear rise, then half a cosine down to 0.

    Args:
        progress: Share of the training that is done, 0..1.
        warm_up: Share of the training in which the factor rises, from 1/25.

    Returns:
        Factor in 0..1.

    Source: Smith and Topin, Super-Convergence, arXiv:1708.07120.
    """
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def optimise(
    accelerator: Accelerator, model: nn.Module, optimiser: Any, batch: Any, clip_norm: float
) -> tuple[dict[str, float], bool]:
    """Take one step of the optimiser; if the gradient is not finite, change nothing.

    Args:
        accelerator: The accelerator that prepared model and optimiser.
        model: Returns a dict of scalar losses for a batch; "loss" is minimised.
        optimiser: Optimiser of the model's weights.
        batch: A batch on the model's device.
        clip_norm: Largest norm of the gradient over all weights.

    Returns:
        The losses, and whether the gradient was finite.
    """
    model.train()
    statistics = [buffer.clone() for buffer in model.buffers()]  # of batch norms; a forward pass changes them
    with accelerator.autocast():
        losses: dict[str, Tensor] = model(batch)
    accelerator.backward(losses["loss"])
    finite = math.isfinite(float(accelerator.clip_grad_norm_(model.parameters(), clip_norm)))
    if finite:
        optimiser.step()
    else:
        for buffer, before in zip(model.buffers(), statistics, strict=True):
            buffer.copy_(before)
    optimiser.zero_grad(set_to_none=True)
    return {name: float(value.detach()) for name, value in losses.items()}, finite


def moving_average(decay: float) -> Callable[..., None]:
    """Make a moving average for ``AveragedModel`` that follows the weights closely at first, slowly later."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), share)
            else:
                average.copy_(value)

    return update
