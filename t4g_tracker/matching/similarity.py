"""Cosine similarity of points to the cells of a frame, whole or within windows.

Matching takes two thirds of a step's time, most of it for reading and writing memory. So derivatives are
written out: they pass over the cells less than half as often as PyTorch's own would.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SHORTEST = 1e-6  # a feature shorter than this counts as none


def frame_similarity(cells: Tensor, queries: Tensor) -> Tensor:
    """Compute the cosine similarity of every point to every cell of its frame.

    Args:
        cells: (F, N, C) features, of any length.
        queries: (F, P, C) unit vectors, the same number of points for each frame.

    Returns:
        (F, P, N).
    """
    similarity: Tensor = _FrameSimilarity.apply(cells, queries)
    return similarity


def window_similarity(cells: Tensor, queries: Tensor, rows: Tensor) -> Tensor:
    """Compute the cosine similarity of every point to cells of its own choice.

    Args:
        cells: (N, C) features, of any length and floating dtype.
        queries: (P, C) unit vectors, of at least the precision of ``cells``.
        rows: (P, K) int64 rows of ``cells``, those of each point.

    Returns:
        (P, K) in the precision of ``queries``.
    """
    similarity: Tensor = _WindowSimilarity.apply(cells, queries, rows)
    return similarity


class _FrameSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cells: Tensor, queries: Tensor) -> Tensor:
        length = cells.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)
        directions = cells / length
        ctx.save_for_backward(directions, length, queries)
        return torch.bmm(queries, directions.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        directions, length, queries = ctx.saved_tensors
        along = torch.bmm(gradient.mT, queries)
        along -= directions * (along * directions).sum(dim=-1, keepdim=True)
        return along.div_(length), torch.bmm(gradient, directions)


class _WindowSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cells: Tensor, queries: Tensor, rows: Tensor) -> Tensor:
        around = cells.index_select(0, rows.flatten()).to(queries.dtype).view(*rows.shape, -1)
        length = torch.linalg.vector_norm(around, dim=-1).clamp_min(SHORTEST)
        similarity = torch.bmm(around, queries[:, :, None]).squeeze(2) / length
        ctx.save_for_backward(cells, around, queries, rows, length, similarity)
        return similarity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        cells, around, queries, rows, length, similarity = ctx.saved_tensors
        gradient = gradient / length
        index = rows.flatten()
        # towards the queries; then away from the cell itself, of which all its visitors need one sum
        towards = torch.bmm(gradient[:, :, None], queries[:, None]).flatten(0, 1)
        to_cells = queries.new_zeros(cells.shape).index_add_(0, index, towards)
        pull = queries.new_zeros(len(cells)).index_add_(0, index, (gradient * similarity / length).flatten())
        to_cells.addcmul_(cells, pull[:, None], value=-1)
        to_queries = torch.bmm(gradient[:, None], around).squeeze(1)
        return to_cells.to(cells.dtype), to_queries, None
