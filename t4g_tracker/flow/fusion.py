"""Choosing between flows per pixel: the one under which the two frames look most alike."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

WINDOW_PX = 7  # side of the square that is compared, in pixels of the frames; odd


def best_flow(first: Tensor, second: Tensor, flows: Tensor) -> Tensor:
    """Choose at every pixel the flow whose colours fit best.

    DIS searches from coarse to fine and loses fast or thin things; a network finds those and
    errs elsewhere. The best flow makes the second frame, warped back, look most like the first.

    Args:
        first: (3, H, W) uint8.
        second: (3, H, W) uint8.
        flows: (K, 2, H, W) displacements (dx, dy) from the first to the second frame, pixels.

    Returns:
        (2, H, W) in the type of ``flows``; of two that fit equally well, the earlier one.

    Source: Lempitsky et al., FusionFlow, CVPR 2008, which fuses flow candidates by how well
    they explain the images; here a window replaces its smoothness term.
    """
    if len(flows) == 1:
        return flows[0]
    best, least = flows[0], colour_misfit(first, second, flows[0])
    for flow in flows[1:]:
        misfit = colour_misfit(first, second, flow)
        fits_better = misfit < least
        best, least = torch.where(fits_better, flow, best), torch.where(fits_better, misfit, least)
    return best


def colour_misfit(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """Measure how much the second frame, warped back along a flow, differs from the first.

    Args:
        first: (3, H, W) uint8.
        second: (3, H, W) uint8; its edges are repeated beyond it.
        flow: (2, H, W) displacement (dx, dy) from the first to the second frame, pixels.

    Returns:
        (H, W) float32, mean difference of the three channels in a window around each pixel, 0..255.
    """
    difference = (warped_back(second, flow) - first.float()).abs().mean(dim=0)
    window = (WINDOW_PX, WINDOW_PX)
    return torch.from_numpy(cv2.blur(difference.numpy(), window, borderType=cv2.BORDER_REFLECT))


def warped_back(second: Tensor, flow: Tensor) -> Tensor:
    """Take every pixel of a first frame from where a flow leads in the second: (C, H, W) float32.

    Args:
        second: (C, H, W) with at least two channels, such as colours; its edges are repeated beyond it.
        flow: (2, H, W) displacement (dx, dy) from the first to the second frame, pixels.
    """
    x, y = _pixels(int(flow.shape[-2]), int(flow.shape[-1]))
    dx, dy = flow.float().numpy()
    rows = np.ascontiguousarray(second.permute(1, 2, 0).float().numpy())
    moved = cv2.remap(rows, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(moved).permute(2, 0, 1)


@lru_cache(maxsize=4)
def _pixels(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The x and the y of every pixel, (H, W) each."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y
