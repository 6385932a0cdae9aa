"""Choosing between flows per pixel: the one under which the two frames look most alike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from t4g_tracker.coordinates import to_sample_grid

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
    misfit = torch.stack([colour_misfit(first, second, flow) for flow in flows])
    choice = misfit.argmin(dim=0)
    return flows.gather(0, choice[None, None].expand(1, 2, -1, -1))[0]


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
    return avg_pool2d(difference[None, None], WINDOW_PX, 1, WINDOW_PX // 2, count_include_pad=False)[0, 0]


def warped_back(second: Tensor, flow: Tensor) -> Tensor:
    """Take every pixel of a first frame from where a flow leads in the second: (3, H, W) float32.

    Args:
        second: (3, H, W) uint8; its edges are repeated beyond it.
        flow: (2, H, W) displacement (dx, dy) from the first to the second frame, pixels.
    """
    height, width = flow.shape[-2:]
    pixels = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), dim=-1)
    grid = to_sample_grid(pixels + flow.float().permute(1, 2, 0), (height, width))
    return grid_sample(second[None].float(), grid[None], padding_mode="border", align_corners=False)[0]
