"""A colour for every query point, the same in every picture of a run."""

from __future__ import annotations

import colorsys

import numpy as np
import torch

from t4g_tracker.datatypes import QueryPoints

FEW_POINTS = 12
_GOLDEN_ANGLE = 0.38196601  # of a turn; any number of its multiples are well apart


def point_colours(queries: QueryPoints) -> np.ndarray:
    """Choose a bright colour for each query point.

    A few points get hues that are far apart. Many points are coloured by position, with
    the hue changing from left to right and the saturation from top to bottom, so that a
    grid of points keeps its pattern while it is tracked well, and mistakes stand out.

    Args:
        queries: N query points.

    Returns:
        (N, 3) uint8 red, green and blue. They depend on ``queries`` alone.
    """
    count = len(queries)
    if count <= FEW_POINTS:
        hues = [(0.02 + index * _GOLDEN_ANGLE) % 1 for index in range(count)]
        return _to_rgb([(hue, 0.78, 1.0) for hue in hues])
    low, high = queries.xy.amin(dim=0), queries.xy.amax(dim=0)
    place = ((queries.xy - low) / (high - low).clamp(min=1e-6)).to(torch.float64)
    return _to_rgb([(0.78 * x, 0.95 - 0.45 * y, 1.0 - 0.12 * (1 - y)) for x, y in place.tolist()])


def _to_rgb(colours: list[tuple[float, float, float]]) -> np.ndarray:
    """Convert hue, saturation and value in 0..1 to (N, 3) uint8."""
    rgb = np.array([colorsys.hsv_to_rgb(*colour) for colour in colours]).reshape(-1, 3)
    return (rgb * 255).round().astype(np.uint8)
