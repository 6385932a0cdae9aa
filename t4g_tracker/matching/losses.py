"""Losses on cost maps: pure functions, one value per point.

They treat matching as classification: which cell of the target frame shows the point? The
adaptation to one video and the training of Track4Gen on many share them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def cell_cross_entropy(
    similarity: Tensor, target: Tensor, size: tuple[int, int], temperature: float
) -> Tensor:
    """Compute the cross-entropy of the softmax over a frame's cells against the target's four nearest cells.

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
    corner = torch.arange(4, device=target.device)  # left and right above, left and right below
    x, y = target[:, 0].clamp(0, width - 1)[:, None], target[:, 1].clamp(0, height - 1)[:, None]
    column = x.long().clamp_max(width - 2) + corner % 2
    row = y.long().clamp_max(height - 2) + corner // 2
    share = (1 - (column - x).abs()).clamp_min(0) * (1 - (row - y).abs()).clamp_min(0)
    index = row * width + column
    loss: Tensor = _SparseCrossEntropy.apply(similarity, index, share, temperature)
    return loss


class _SparseCrossEntropy(torch.autograd.Function):
    """Cross-entropy of softmax(similarity / temperature) against a few shares; all others are 0.

    The derivative is written out, softmax minus shares: one pass where PyTorch would take five.
    """

    @staticmethod
    def forward(ctx: Any, similarity: Tensor, index: Tensor, share: Tensor, temperature: float) -> Tensor:
        log_probability = torch.log_softmax(similarity / temperature, dim=1, dtype=share.dtype)
        ctx.save_for_backward(log_probability, index, share)
        ctx.temperature, ctx.dtype = temperature, similarity.dtype
        return -(share * log_probability.gather(1, index)).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        log_probability, index, share = ctx.saved_tensors
        ahead = log_probability.exp().scatter_add_(1, index, -share)
        ahead *= (gradient / ctx.temperature)[:, None]
        return ahead.to(ctx.dtype), None, None, None


def window_cross_entropy(similarity: Tensor, cells: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Compute ``cell_cross_entropy`` over the cells of a window.

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
