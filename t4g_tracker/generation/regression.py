"""Linear regression from the cells of a grid and their neighbours: a 3x3 convolution in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import unfold


def neighbourhoods(values: Tensor) -> Tensor:
    """Convert (N, C, h, w) to (N * h * w, 9 * C + 1): each cell with its eight neighbours, and a 1."""
    around = rows(unfold(values, 3, padding=1))
    return torch.cat([around, torch.ones(len(around), 1)], 1)


def rows(values: Tensor) -> Tensor:
    """Convert (N, C, cells) to (N * cells, C)."""
    return values.mT.flatten(0, 1)


def ridge_regression(square: Tensor, product: Tensor, ridge: float) -> Tensor:
    """Find the weights W (P, Q) that minimise |X W - Y|^2 + ridge |W|^2.

    Args:
        square: (P, P) X'X.
        product: (P, Q) X'Y.
        ridge: Positive; limits the weights where X has few or similar rows.
    """
    return torch.linalg.solve(square + ridge * torch.eye(len(square), dtype=square.dtype), product)
