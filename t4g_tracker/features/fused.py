"""Two extractors matched together: their features, each at unit length, side by side.

Source: the fusion of Stable Diffusion's and DINOv2's features, arXiv:2305.15347.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import normalize

from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.features.tiles import tiled


def fuse(grids: Sequence[FeatureGrid], weights: Sequence[float], centre: bool) -> FeatureGrid:
    """Join feature grids of one video so that their cosine similarities are averaged.

    Each grid is brought to the tiles of the finest one and its cells to unit length times the root of its
    weight. So the similarity of two fused cells is the mean of the parts' similarities, by their weights.
    The source multiplies vectors by factors, whose squares are these weights.

    Args:
        grids: Of the same T frames and working size; one at least.
        weights: Of their similarities, not negative.
        centre: Whether to subtract each grid's mean feature first: a part common to all cells, which differs
            from extractor to extractor, would else decide how much each counts.

    Returns:
        (T, sum of channels, h, w) in half precision.
    """
    stride = min(grid.stride_px for grid in grids)
    parts = []
    for grid, weight in zip(grids, weights, strict=True):
        tiles = tiled(grid, stride)
        mean = tiles.values.mean((0, 2, 3), keepdim=True, dtype=torch.float32) if centre else 0
        cells = [normalize(frame[None].float() - mean, dim=1, eps=1e-6) for frame in tiles.values]
        parts.append(torch.cat([(frame * weight**0.5).half() for frame in cells]))
    return FeatureGrid(torch.cat(parts, 1), tiles.stride_px, tiles.offset_px, tiles.working_size)
