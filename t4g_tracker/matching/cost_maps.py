"""The core of matching: feature sampling, cost volume, windowed soft-argmax.

Tracking finds query points with these, and the adaptation computes its losses. All are
differentiable, and none loops over points.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import normalize


def cell_vectors(values: Tensor) -> Tensor:
    """Convert a feature grid (T, C, h, w) to unit vectors (T, h, w, C), ready for cosine similarity.

    A cell without any feature (all zeros) stays zero and matches nothing.
    """
    return normalize(values.permute(0, 2, 3, 1), dim=-1, eps=1e-6)


def sample_vectors(vectors: Tensor, frame: Tensor, cells: Tensor) -> Tensor:
    """Sample unit vectors at positions between cells: interpolate bilinearly, then normalise.

    Args:
        vectors: (T, h, w, C) features, of unit length or not.
        frame: (P,) int64 frame of each position.
        cells: (P, 2) positions (x, y) in cells; outside positions take the border.

    Returns:
        (P, C) unit vectors.
    """
    _, height, width, channels = vectors.shape
    flat = vectors.reshape(-1, channels)
    x = cells[:, 0].clamp(0, width - 1)
    y = cells[:, 1].clamp(0, height - 1)
    left, top = x.floor().clamp_max(max(width - 2, 0)), y.floor().clamp_max(max(height - 2, 0))
    across, down = (x - left)[:, None], (y - top)[:, None]
    row = frame * height + top.long()
    corner = row * width + left.long()
    step_x, step_y = min(1, width - 1), width * min(1, height - 1)
    corners = torch.stack([corner, corner + step_x, corner + step_y, corner + step_y + step_x])
    # one selection for all four corners: the gradient of each would pass over the whole grid
    around = flat.index_select(0, corners.flatten()).view(2, 2, len(cells), channels)
    upper, lower = around[:, 0] * (1 - across) + around[:, 1] * across
    return normalize((upper * (1 - down) + lower * down).float(), dim=-1, eps=1e-6)


def cost_volume(queries: Tensor, vectors: Tensor) -> Tensor:
    """Compute the cosine similarity of every query vector to every cell of one frame.

    Args:
        queries: (N, C) unit vectors.
        vectors: (h, w, C) unit vectors of the frame.

    Returns:
        (N, h, w) similarity in -1..1.
    """
    height, width, channels = vectors.shape
    return (queries @ vectors.reshape(-1, channels).T).view(-1, height, width)


def peak_cells(cost: Tensor) -> Tensor:
    """Find the best whole cell of each cost map (N, h, w): (N, 2) int64 (x, y)."""
    best = cost.flatten(1).argmax(1)
    return torch.stack([best % cost.shape[2], best // cost.shape[2]], -1)


def top_peaks(cost: Tensor, count: int, radius: float) -> tuple[Tensor, Tensor]:
    """Find the ``count`` best cells of each cost map that lie more than ``radius`` cells apart.

    Args:
        cost: (N, h, w) similarity.
        count: How many, K.
        radius: Cells within this distance of a peak cannot be another one.

    Returns:
        (N, K, 2) int64 cells (x, y), best first, and (N, K) their similarity; -inf where a
        small grid has no further cell.
    """
    _, height, width = cost.shape
    remaining = cost.flatten(1)
    remaining = remaining.clone() if count > 1 else remaining
    offsets = window_offsets(radius, cost.device)
    peaks, similarities = [], []
    for k in range(count):
        similarity, best = remaining.max(1)
        peaks.append(torch.stack([best % width, best // width], -1))
        similarities.append(similarity)
        if k == count - 1:
            break
        x, y = (peaks[-1][:, None] + offsets).unbind(-1)
        remaining.scatter_(1, y.clamp(0, height - 1) * width + x.clamp(0, width - 1), float("-inf"))
    return torch.stack(peaks, 1), torch.stack(similarities, 1)


@cache  # for good: a recorded CUDA graph reads them where they lie
def window_offsets(radius: float, device: torch.device | None = None) -> Tensor:
    """List all whole-cell offsets (K, 2) within ``radius`` cells of (0, 0). Not to be changed: it is kept."""
    reach = torch.arange(-int(radius), int(radius) + 1)
    offsets = torch.stack(torch.meshgrid(reach, reach, indexing="xy"), -1).reshape(-1, 2)
    return offsets[offsets.square().sum(-1) <= radius**2 + 1e-6].to(device)


def soft_argmax(
    cost: Tensor, radius: float, temperature: float, centre: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the peak of each cost map to a fraction of a cell.

    Only cells within ``radius`` of the best cell vote, so a look-alike elsewhere in the
    frame cannot drag the answer to a point between the two.

    Args:
        cost: (N, h, w) similarity of each query point to every cell of one frame.
            No unit; higher is more alike.
        radius: Reach of the vote, in feature cells. Positive.
        temperature: Softmax temperature, no unit. Positive; smaller is sharper.
        centre: (N, 2) int64 cells to vote around; None takes each map's best cell.

    Returns:
        (N, 2) positions as (x, y), in feature cells, whole numbers at centres; and (N,)
        the highest similarity among the cells that voted.

    Raises:
        ValueError: If ``cost`` is not (N, h, w), or ``radius`` or ``temperature`` is not
            positive.

    Source: the windowed soft-argmax of DINO-Tracker, arXiv:2403.14548.
    """
    if cost.ndim != 3:
        raise ValueError(f"cost must be (N, h, w), got {tuple(cost.shape)}")
    if radius <= 0 or temperature <= 0:
        raise ValueError(f"radius and temperature must be positive, got {radius} and {temperature}")
    count, height, width = cost.shape
    if centre is None:
        centre = peak_cells(cost)
    cells = centre[:, None] + window_offsets(radius, cost.device)
    x, y = cells.unbind(-1)
    valid = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    votes = cost.reshape(count, -1).gather(1, index).masked_fill(~valid, float("-inf"))
    return vote(votes, cells, temperature), votes.amax(1)


def vote(votes: Tensor, cells: Tensor, temperature: float) -> Tensor:
    """Average ``cells`` (P, K, 2), weighted by the softmax of their similarities ``votes`` (P, K): (P, 2)."""
    weights = torch.softmax(votes.float() / temperature, dim=1)
    return (weights[..., None] * cells).sum(1)
