"""Trails: where each point has come from, painted behind it."""

from __future__ import annotations

import warnings

import cv2
import numpy as np

from t4g_tracker.coordinates import Size
from t4g_tracker.visualize.painting import SHIFT, fixed

JUMP = 0.05  # of the diagonal: a shorter step is always taken for motion
_UNLIKE = 0.75  # of its length: steps that differ by less belong to one motion
_FEW = 4  # so many points and more have a common motion


def joined_steps(xy: np.ndarray, visible: np.ndarray, size: Size) -> np.ndarray:
    """Find the steps from frame to frame that a trail shows: the point is seen at both ends, and moved.

    A tracker that confuses two look-alikes jumps from one to the other, which is no motion. A long step
    is taken for one if the point neither came nor goes on like that, and the points in general do not
    move like that either.

    Args:
        xy: (N, T, 2) pixels.
        visible: (N, T) bool.
        size: (H, W) of the frames in the same pixels.

    Returns:
        (N, T - 1) bool.
    """
    steps = np.diff(xy, axis=1)
    seen = visible[:, :-1] & visible[:, 1:] & np.isfinite(steps).all(axis=-1)
    steps = np.where(seen[..., None], steps, np.nan)
    length = np.linalg.norm(steps, axis=-1)
    unknown = np.full_like(steps[:, :1], np.nan)
    before, after = np.hstack([unknown, steps[:, :-1]]), np.hstack([steps[:, 1:], unknown])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no point is seen at both ends
        common = np.nanmedian(steps, axis=0, keepdims=True)
    common = np.where(seen.sum(axis=0)[:, None] >= _FEW, common, np.nan)
    carried = np.zeros_like(seen)
    for other in (before, after, common):
        carried |= np.linalg.norm(steps - other, axis=-1) <= _UNLIKE * length  # false where unknown
    short = length <= JUMP * float(np.hypot(*size))
    found: np.ndarray = seen & (short | carried)
    return found


def paint_trails(
    canvas: np.ndarray,
    xy: np.ndarray,
    joined: np.ndarray,
    colours: np.ndarray,
    radius: float,
    trail_frames: int,
) -> np.ndarray:
    """Paint trails on a frame, the newest end strongest and widest.

    Args:
        canvas: (H, W, 3) uint8.
        xy: (N, frames, 2) pixels of the canvas, up to the frame shown.
        joined: (N, frames - 1) bool, which steps to paint.
        colours: (N, 3) uint8.
        radius: Radius of the dots in pixels.
        trail_frames: Steps after which a trail has faded.

    Returns:
        (H, W, 3) uint8, a copy.
    """
    colour = canvas.copy()
    strength = np.zeros(canvas.shape[:2], np.uint8)
    where, rgb, last = fixed(xy), colours.tolist(), joined.shape[1]
    for step in range(last):
        freshness = 1 - (last - 1 - step) / trail_frames
        width, share = max(1, round(radius * (0.25 + 0.55 * freshness))), round(225 * freshness**1.3)
        for point in np.flatnonzero(joined[:, step]):
            start, end = where[point][step], where[point][step + 1]
            cv2.line(colour, start, end, rgb[point], width + 2, cv2.LINE_8, SHIFT)
            cv2.line(strength, start, end, share, width, cv2.LINE_AA, SHIFT)
    mixed, touched = canvas.copy(), strength > 0  # a small part of the frame
    below, above = canvas[touched], colour[touched].astype(np.float32)
    mixed[touched] = (below + (above - below) * (strength[touched, None].astype(np.float32) / 255)).round()
    return mixed
