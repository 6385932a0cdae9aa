"""Dots, rings, lines and text, painted with sub-pixel accuracy on uint8 pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from t4g_tracker.coordinates import Size, rescale

SHIFT = 4  # OpenCV takes positions in 1/16 pixel
PAPER = (17, 19, 23)  # behind and between pictures
INK = (232, 234, 237)
SOFT_INK = (154, 160, 168)


def dimmed(frame: np.ndarray, brightness: float) -> np.ndarray:
    """Make a frame (H, W, 3) uint8 darker and half grey, so that bright marks stand out.

    Args:
        frame: The frame, RGB.
        brightness: Factor in 0..1.

    Returns:
        (H, W, 3) uint8, a copy.
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    mixed: np.ndarray = cv2.addWeighted(frame, 0.5 * brightness, cv2.merge([grey] * 3), 0.5 * brightness, 0)
    return mixed


def resized(frame: np.ndarray, size: Size) -> np.ndarray:
    """Resize a frame to (H, W), outer edges in place."""
    if frame.shape[:2] == size:
        return frame
    method = cv2.INTER_AREA if size[0] <= frame.shape[0] else cv2.INTER_CUBIC
    scaled: np.ndarray = cv2.resize(frame, size[::-1], interpolation=method)
    return scaled


def positions(xy: torch.Tensor, source: Size, target: Size) -> np.ndarray:
    """Convert positions (..., 2) from one frame size to another, as float64."""
    return rescale(xy.detach().cpu().double(), source, target).numpy()


def dot_radius(size: Size, count: int) -> float:
    """Choose the radius of dots in pixels: larger in larger pictures, smaller for many points."""
    base = 1.2 + 0.0075 * min(size)
    room = 0.2 * float(np.sqrt(size[0] * size[1] / max(count, 1)))
    return max(1.2, min(base, room))


def paint_points(
    picture: np.ndarray,
    xy: np.ndarray,
    visible: np.ndarray,
    colours: np.ndarray,
    radius: float,
    opacity: np.ndarray | None = None,
) -> None:
    """Paint points in place: a filled dot with a dark rim where visible, a hollow ring where hidden.

    Args:
        picture: (H, W, 3) uint8, changed in place.
        xy: (N, 2) pixels of ``picture``; points outside or not finite are left out.
        visible: (N,) bool.
        colours: (N, 3) uint8.
        radius: Radius of the dots, in pixels.
        opacity: (N,) of the filled dots, 0..1; None: all 1. Fainter ones are painted first.
    """
    height, width = picture.shape[:2]
    near = np.isfinite(xy).all(axis=1)
    near[near] = (np.abs(xy[near] * 2 + 1 - (width, height)) < np.array([width, height]) + 2 * radius).all(1)
    ring = max(1, round(radius / 3.2))
    hidden, seen = np.flatnonzero(near & ~visible), np.flatnonzero(near & visible)
    where, colour = fixed(xy), colours.tolist()
    for index in hidden:
        _circle(picture, where[index], radius + 0.5, colour[index], ring)
    shares = np.ones(len(xy)) if opacity is None else opacity
    for index in seen[np.argsort(shares[seen], kind="stable")]:
        share = float(shares[index])
        around = _around(picture, xy[index], radius + 3)
        behind = around.copy() if share < 1 else None
        _circle(picture, where[index], radius + min(0.9, 0.3 * radius), (12, 12, 14), cv2.FILLED)
        _circle(picture, where[index], radius, colour[index], cv2.FILLED)
        if behind is not None and behind.size:
            around[:] = cv2.addWeighted(around, share, behind, 1 - share, 0)


def _around(picture: np.ndarray, xy: np.ndarray, reach: float) -> np.ndarray:
    """The part of a picture within a square around a position; a view, empty outside the picture."""
    left, top = np.maximum(np.floor(xy - reach), 0).astype(int)
    right, bottom = np.maximum(np.ceil(xy + reach) + 1, 0).astype(int)
    return picture[top:bottom, left:right]


def _circle(
    picture: np.ndarray, centre: Sequence[int], radius: float, colour: Sequence[int], thickness: int
) -> None:
    cv2.circle(picture, centre, round(radius * 2**SHIFT), colour, thickness, cv2.LINE_AA, SHIFT)


def fixed(xy: np.ndarray) -> Any:
    """Convert positions (..., 2) to lists of OpenCV's fixed-point numbers with ``SHIFT`` fractional bits.

    Those that are not finite, which nobody can paint, become 0.
    """
    finite = np.where(np.isfinite(xy), xy, 0)
    return np.clip(np.rint(finite * 2**SHIFT), -(2**24), 2**24).astype(int).tolist()


def paint_line(
    picture: np.ndarray, start: np.ndarray, end: np.ndarray, colour: Sequence[int], width: int
) -> None:
    """Paint a smooth line in place; nothing if an end is not finite."""
    if np.isfinite(start).all() and np.isfinite(end).all():
        cv2.line(picture, fixed(start), fixed(end), colour, width, cv2.LINE_AA, SHIFT)


@lru_cache
def _font(height_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height_px)


def write_text(
    picture: np.ndarray,
    text: str,
    xy: tuple[float, float],
    height_px: int,
    colour: tuple[int, int, int] = INK,
    anchor: str = "lm",
    width_px: float | None = None,
) -> None:
    """Write one line of text in place, smaller if it would be wider than ``width_px``.

    Args:
        picture: (H, W, 3) uint8, changed in place.
        text: The line of text.
        xy: Position of the anchor, in pixels.
        height_px: Height of the letters.
        colour: Red, green, blue.
        anchor: Pillow's two letters; "lm" is left middle, "mm" the middle.
        width_px: Largest width; None for any.
    """
    if width_px is not None:
        height_px = fitting_height(text, height_px, width_px)
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(xy, text, fill=colour, font=_font(height_px), anchor=anchor)
    picture[:] = np.asarray(image)


def text_width(text: str, height_px: int) -> float:
    """Measure the width of a line of text in letters of this height, in pixels."""
    return float(_font(height_px).getlength(text))


def fitting_height(text: str, height_px: int, width_px: float) -> int:
    """Find the height of letters, at most ``height_px``, at which a line of text fits ``width_px``."""
    return next((height for height in range(height_px, 7, -1) if text_width(text, height) <= width_px), 7)
