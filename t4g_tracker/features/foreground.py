"""Foreground masks from features: what the first principal component sets apart from the frame's border.

Source: the masks of DINO-Tracker, arXiv:2403.14548, and its released code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from t4g_tracker.datatypes import FeatureGrid

THRESHOLD = 0.6  # foreground is below it, on a scale from 0 to 1 over the whole video


def foreground_masks(features: FeatureGrid) -> Tensor:
    """Tell the main objects from what surrounds them.

    Cells of unit length are projected on the direction in which they vary most. Which end of it is the
    foreground, the component does not say: here, the one that covers less of the frame's border. DINO-Tracker
    takes one end, of DINOv2's last layer; here, the features are those that are tracked.

    Args:
        features: Of T frames, cells tiling the frame of (H, W) working pixels.

    Returns:
        (T, H, W) bool. Empty if all cells are alike.
    """
    cells = [normalize(frame.float().flatten(1).T, dim=1, eps=1e-6) for frame in features.values]
    first = _first_component(cells)
    along = torch.stack([frame @ first for frame in cells]).view(len(cells), *features.shape[2:])
    low, high = along.amin(), along.amax()
    scaled = (along - low) / (high - low).clamp_min(1e-6)
    sides = scaled < THRESHOLD, scaled > 1 - THRESHOLD
    inside = min(sides, key=lambda side: (_border_share(side), side.float().mean().item()))
    if high - low < 1e-6:
        inside = torch.zeros_like(inside)
    return interpolate(inside[:, None].float(), size=features.working_size, mode="nearest")[:, 0] > 0.5


def _first_component(cells: list[Tensor]) -> Tensor:
    """The direction (C,) in which the cells (h * w, C) of all frames vary most."""
    count = sum(len(frame) for frame in cells)
    mean = torch.stack([frame.sum(0) for frame in cells]).sum(0) / count
    scatter = sum(
        ((frame - mean).T @ (frame - mean) for frame in cells), mean.new_zeros(len(mean), len(mean))
    )
    return torch.linalg.eigh(scatter.double()).eigenvectors[:, -1].float()


def _border_share(mask: Tensor) -> float:
    """Share of the outermost cells of (T, h, w) that are in the mask."""
    border = torch.ones_like(mask)
    border[:, 1:-1, 1:-1] = False
    return mask[border].float().mean().item()
