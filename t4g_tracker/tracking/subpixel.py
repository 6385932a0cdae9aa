"""Sub-pixel refinement: Lucas-Kanade on the original frames, started from the matched position.

Feature matching is right to a fraction of a cell, and a cell is several pixels. Comparing
the pixels around the query point with those around each match gains the rest, where the
two still look alike.

Source: Lucas and Kanade, 1981; pyramids after Bouguet, 2001, as in OpenCV.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from t4g_tracker.coordinates import PIXELS_480P
from t4g_tracker.datatypes import QueryPoints, Video
from t4g_tracker.threads import in_threads


def refine_positions(
    video: Video,
    queries: QueryPoints,
    xy: Tensor,
    reach_px: float,
    window_px: int,
    pixels: int = PIXELS_480P,
) -> Tensor:
    """Refine matched positions against the query frame's pixels.

    A refined position is accepted if its cycle error, the distance from the query point after
    Lucas-Kanade back to the query frame, is at most one pixel and the move at most ``reach_px``;
    otherwise the match stays. Both lengths are in pixels of a frame of ``pixels`` pixels, or in the
    frame's own pixels if it is smaller.

    Args:
        video: The original frames.
        queries: N query points, original pixels.
        xy: (N, T, 2) matched positions, original pixels.
        reach_px: Longest accepted move.
        window_px: Side of the square that is compared, at every level of the pyramid.
        pixels: Larger frames start on a pyramid level of about this size.

    Returns:
        (N, T, 2) positions, original pixels; query frames are left as they are.
    """
    height, width = video.size
    scale = max(1.0, (height * width / pixels) ** 0.5)
    levels = 1 + round(math.log2(scale))
    window = (window_px, window_px)
    grey = list(in_threads(lambda frame: cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), video.frames))
    result = xy.clone()
    for frame in queries.frame.unique().tolist():
        rows = (queries.frame == frame).nonzero().squeeze(1)
        begin = queries.xy[rows].float().numpy().reshape(-1, 1, 2)
        others = [t for t in range(video.frame_count) if t != frame]

        def refined(t: int, frame: int = frame, rows: Tensor = rows, begin: np.ndarray = begin) -> Tensor:
            guess = xy[rows, t].numpy().reshape(-1, 1, 2)
            return _refine_in_frame(
                grey[frame], grey[t], begin, guess, reach_px * scale, scale, window, levels
            )

        for t, found in zip(others, in_threads(refined, others), strict=True):
            result[rows, t] = found
    return result


def _refine_in_frame(
    first: np.ndarray,
    second: np.ndarray,
    begin: np.ndarray,
    guess: np.ndarray,
    reach_px: float,
    cycle_px: float,
    window: tuple[int, int],
    levels: int,
) -> Tensor:
    """Refine all points of one query frame in one other frame, (P, 2)."""
    options: dict[str, Any] = {"winSize": window, "maxLevel": levels, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, begin, guess.copy(), **options)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(second, first, there, begin.copy(), **options)
    moved = np.linalg.norm(there - guess, axis=2)
    cycle_error = np.linalg.norm(back - begin, axis=2)
    good = (found == 1) & (found_back == 1) & (moved <= reach_px) & (cycle_error <= cycle_px)
    return torch.from_numpy(np.where(good[..., None], there, guess)[:, 0])
