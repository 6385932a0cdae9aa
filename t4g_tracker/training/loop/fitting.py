"""The batch that a GPU's memory holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

MOST = 64  # largest batch that is chosen
ON_CPU = 2
ROOM = 0.8  # share of the GPU's memory that is filled
OPTIMISER_BYTES = 8  # of each trained weight: AdamW's two moments in float32


def fitting_batch(
    objective: nn.Module,
    items: Dataset[Any],
    collate: Callable[[list[Any]], Any],
    device: torch.device,
    precision: torch.dtype,
) -> int:
    """Choose a batch: as many items as fit into a GPU's memory, rounded down to a power of two.

    One and two items are passed forward and backward to see what each takes; what the optimiser and the
    moving average of the weights will keep is added. On a CPU it is two. Statistics of batch norms are put
    back, gradients are dropped; random numbers are used up.

    Args:
        objective, items, collate: As in ``train``; the objective is moved to the device.
        device: Where it trains.
        precision: Type of autocast.

    Raises:
        torch.OutOfMemoryError: If not even one item fits.
    """
    if device.type != "cuda":
        return ON_CPU
    objective.to(device).train()
    item, statistics = items[0, 0], [buffer.clone() for buffer in objective.buffers()]

    def peak(count: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        with torch.autocast("cuda", precision, enabled=precision != torch.float32):
            losses = objective(collate([item] * count).to(device))
        losses["loss"].backward()
        objective.zero_grad(set_to_none=True)
        return torch.cuda.max_memory_allocated(device)

    one, two = peaks(peak)
    objective.zero_grad(set_to_none=True)
    for buffer, before in zip(objective.buffers(), statistics, strict=True):
        buffer.copy_(before)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    room = ROOM * (free + torch.cuda.memory_reserved(device))
    return largest_batch(one, two, room - kept_bytes(objective))


def peaks(peak: Callable[[int], float]) -> tuple[float, float]:
    """Measure the memory that batches of one item and of two take; infinity for two that do not fit."""
    one = peak(1)
    try:
        return one, peak(2)
    except torch.OutOfMemoryError:
        return one, math.inf


def kept_bytes(objective: nn.Module) -> int:
    """Count what a training keeps besides its objective: AdamW's moments, and the averaged copy of all."""
    trained = sum(weight.numel() for weight in objective.parameters() if weight.requires_grad)
    whole = [*objective.parameters(), *objective.buffers()]
    return OPTIMISER_BYTES * trained + sum(value.numel() * value.element_size() for value in whole)


def largest_batch(one: float, two: float, room: float) -> int:
    """Choose the largest power of two whose memory, a line through that of one and two items, fits.

    Args:
        one: Memory that a batch of one item takes, bytes.
        two: Memory of two; may be infinite.
        room: Memory there is.

    Returns:
        From 1 to ``MOST``.
    """
    batch = 1
    while 2 * batch <= MOST and one + (2 * batch - 1) * max(0.0, two - one) <= room:
        batch *= 2
    return batch
