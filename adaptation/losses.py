"""Losses of the adaptation: pure functions, one value per point (or per cell); the loop weights and adds.

Source: DINO-Tracker, arXiv:2403.14548 (flow loss and prior); the cross-entropy on the
cost map is the usual classification view of matching.
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
    extent = found.new_tensor([size[1] / 2, size[0] / 2])
    distance = ((found - target) / extent).abs()
    square = 0.5 * distance.square()
    linear = delta * (distance - 0.5 * delta)
    return torch.where(distance <= delta, square, linear).sum(-1)


def cell_cross_entropy(
    similarity: Tensor, target: Tensor, size: tuple[int, int], temperature: float
) -> Tensor:
    """Cross-entropy of the softmax over all cells of a frame against the target's four nearest cells.

    The target falls between cells, so its probability is shared among them by bilinear
    weights: the distribution whose mean is the target.

    Args:
        similarity: (P, h * w) similarity of each point to every cell, row by row.
        target: (P, 2) true positions in cells; clamped to the grid.
        size: (h, w), both at least 2.
        temperature: Softmax temperature.

    Returns:
        (P,) loss in nats.
    """
    height, width = size
    limits = target.new_tensor([width - 1, height - 1])
    target = torch.minimum(target.clamp_min(0), limits)
    corner = torch.minimum(target.floor(), limits - 1).long()
    steps = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=target.device)
    cells = corner[:, None] + steps
    share = (1 - (cells - target[:, None]).abs()).clamp_min(0).prod(-1)
    scaled = similarity / temperature
    at_target = scaled.gather(1, cells[..., 1] * width + cells[..., 0])
    return torch.logsumexp(scaled, 1) - (share * at_target).sum(1)


def window_cross_entropy(similarity: Tensor, cells: Tensor, target: Tensor, temperature: float) -> Tensor:
    """``cell_cross_entropy`` over the cells of a window.

    Args:
        similarity: (P, K) similarity of each point to K cells; -inf where there is none.
        cells: (P, K, 2) positions of those cells.
        target: (P, 2) true positions in cells.
        temperature: Softmax temperature.

    Returns:
        (P,) loss in nats; a target's share on missing cells falls to the others.
    """
    tent = (1 - (cells - target[:, None]).abs()).clamp_min(0).prod(-1) * torch.isfinite(similarity)
    share = tent / tent.sum(1, keepdim=True).clamp_min(1e-6)
    log_probability = torch.log_softmax(similarity.float() / temperature, dim=1)
    return -(share * log_probability.masked_fill(share == 0, 0)).sum(1)


def prior(adapted: Tensor, frozen: Tensor) -> Tensor:
    """How far adapted features have turned from and outgrown the frozen ones.

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
