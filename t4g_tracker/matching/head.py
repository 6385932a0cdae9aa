"""A small network that sharpens cost maps before the soft-argmax, fitted to one video along with its adapter.

Source: the tracking head of DINO-Tracker, arXiv:2403.14548, and its released code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

LEAST_SUM = 1e-8  # of a kernel's weights, of either sign


class CostMapHead(nn.Module):
    """Two 3x3 convolutions, 1 to 16 to 1 channels, on the positive part of a cost map.

    Each kernel is divided by the sum of its nine weights when used, so it cannot scale a map, only reshape
    it. The sum over 16 channels then acts like a softmax temperature of 1/16; the logits go to one of 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, cost: Tensor) -> Tensor:
        """Cosine similarity (N, h, w) to logits (N, h, w)."""
        hidden = relu(_normalised(self.first, relu(cost[:, None])))
        return _normalised(self.second, hidden)[:, 0]


def _normalised(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve with each kernel divided by the sum of its weights."""
    total = layer.weight.sum((2, 3), keepdim=True)
    sign = torch.where(total < 0, -1.0, 1.0)
    kernel = layer.weight / (sign * total.abs().clamp_min(LEAST_SUM))
    return conv2d(x, kernel, layer.bias, padding=1)
