"""Convolutions over time alone, computed in two dimensions: frames and pixels.

A kernel of (k, 1, 1) never sees a neighbouring pixel, so a frame may be flattened to one row. In float32,
CPUs compute the same numbers faster that way. In bfloat16, the weight gradient of the three-dimensional
convolution is not finite for some shapes (torch 2.14: 128 channels on an Intel CPU with AMX).
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.functional import conv2d


class TimeConvolution(nn.Conv3d):
    """A convolution of kernel (k, 1, 1) and stride 1: (B, C, T, H, W) to (B, C', T', H, W)."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        height, width = input.shape[-2:]
        padding = (cast(int, self.padding[0]), 0)
        output = conv2d(input.flatten(3), weight.squeeze(4), bias, padding=padding)
        return output.unflatten(3, (height, width))


def flatten_time_convolutions(model: nn.Module) -> None:
    """Make a model compute its convolutions over time alone in two dimensions, with the same weights."""
    for module in model.modules():
        if type(module) is nn.Conv3d and _over_time_alone(module):
            module.__class__ = TimeConvolution


def _over_time_alone(convolution: nn.Conv3d) -> bool:
    plain = convolution.groups == 1 and convolution.padding_mode == "zeros"
    plain = plain and set(convolution.stride) == {1} and set(convolution.dilation) == {1}
    return plain and convolution.kernel_size[1:] == (1, 1) and tuple(convolution.padding[1:]) == (0, 0)
