"""Losses that only the adaptation uses: pure functions, one value per point or cell.

The loop weights and adds them. Losses on cost maps, which Track4Gen's training shares, are in
``t4g_tracker/matching/losses.py``. Source: DINO-Tracker, arXiv:2403.14548.
"""

from __future__ import annotations

import torch
from torch import Tensor


def huber(found: Tensor, target: Tensor, size: tuple[int, int], delta: float = 1 / 32) -> Tensor:
    """Huber distance between found and target positions, on coordinates scaled to -1..1.

    Args:
        found: (P, 2) cells.
        target: (P, 2) cells.
        size: (h, w) of the grid in cells.
        delta: Where the loss turns from square to linear, in units of half the frame.

    Returns:
        (P,) loss, x and y added.
    """
    x, y = (found - target).unbind(-1)
    distance = torch.stack([x / (size[1] / 2), y / (size[0] / 2)], -1).abs()
    square = 0.5 * distance.square()
    linear = delta * (distance - 0.5 * delta)
    return torch.where(distance <= delta, square, linear).sum(-1)


def prior(adapted: Tensor, frozen: Tensor) -> Tensor:
    """Measure how far adapted features have left the frozen ones, in direction and length.

    Args:
        adapted: (B, C, h, w).
        frozen: (B, C, h, w) aligned frozen features.

    Returns:
        (B, h, w): (1 - cosine) plus |1 - ratio of norms|, zero when nothing changed.
    """
    adapted, frozen = adapted.float(), frozen.float()
    adapted_norm = adapted.norm(dim=1).clamp_min(1e-6)
    frozen_norm = frozen.norm(dim=1).clamp_min(1e-6)
    cosine = (adapted * frozen).sum(1) / (adapted_norm * frozen_norm)
    return (1 - cosine) + (1 - adapted_norm / frozen_norm).abs()
