"""Losses on cost maps: pure functions, one value per point.

Matching seen as classification: which cell of the target frame shows the point. Shared by
the adaptation to one video and the training of Track4Gen on many.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
