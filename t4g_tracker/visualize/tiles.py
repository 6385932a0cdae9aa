"""Tiles: one video drawn small, many times beside itself, each time with other tracks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.visualize.colours import point_colours
from t4g_tracker.visualize.drawing import (
    SOFT_INK,
    dimmed,
    dot_radius,
    draw_points,
    line,
    positions,
    resized,
    write_text,
)
from t4g_tracker.visualize.overlay import with_trails

WIDEST_PX = 1600  # of a picture of tiles
GAP_PX = 8  # between tiles
DIM = 0.75
_LEGEND = ("seen", "hidden", "to where the point truly is")
_ERROR_COLOUR = (255, 255, 255)
_ERROR_STRENGTH = 0.45  # frozen features miss by much: the lines to the truth must not bury the points


def tile_size(size: Size, widest_px: float) -> Size:
    """(H, W) of a tile that keeps the video's aspect and is neither huge nor tiny."""
    width = max(24.0, min(widest_px, 640.0 if size[1] >= size[0] else 360.0, 2.0 * size[1]))
    return max(16, round(width * size[0] / size[1])), int(width)


def columns_across(count: int, size: Size) -> int:
    """How many of ``count`` tiles go side by side so that the grid comes nearest to 16:9."""

    def misfit(across: int) -> float:
        down = math.ceil(count / across)
        empty = across * down - count
        return abs(math.log(across * size[1] / (down * size[0]) / (16 / 9))) + 0.15 * empty

    return min(range(1, count + 1), key=misfit)


@dataclass(frozen=True)
class Painter:
    """Draws tiles of one video."""

    video: Video
    size: Size  # (H, W) of a tile
    colours: np.ndarray  # (N, 3) uint8
    radius: float  # pixels of a tile
    truth: np.ndarray | None  # (N, T, 2) pixels of a tile, not a number where hidden

    @classmethod
    def make(cls, video: Video, queries: QueryPoints, size: Size, truth: Tracks | None) -> Painter:
        """A painter whose lines lead to the true tracks, where they are known."""
        true_xy = None
        if truth is not None:
            true_xy = positions(truth.xy, video.size, size)
            true_xy[~truth.visibility.cpu().numpy()] = np.nan
        radius = dot_radius(size, len(queries)) + 0.3
        return cls(video, size, point_colours(queries), radius, true_xy)

    @property
    def legend(self) -> tuple[str, ...]:
        """What there are marks for: seen, hidden, and the line to the truth where that is known."""
        return _LEGEND if self.truth is not None else _LEGEND[:2]

    def background(self, frame: int) -> np.ndarray:
        """A frame of the video at the tile's size (H, W, 3), dimmed."""
        return dimmed(resized(self.video.frames[frame], self.size), DIM)

    def tile(self, background: np.ndarray, tracks: Tracks, frame: int, trail_frames: int = 0) -> np.ndarray:
        """One frame with the points where ``tracks`` have them, and where they came from."""
        first = max(0, frame - trail_frames)
        xy = positions(tracks.xy[:, first : frame + 1], self.video.size, self.size)
        visible = tracks.visibility[:, first : frame + 1].cpu().numpy()
        picture = background.copy()
        if first < frame:
            picture = with_trails(picture, xy, visible, self.colours, self.radius, trail_frames)
        if self.truth is not None:
            lined = picture.copy()
            for found, true in zip(xy[:, -1], self.truth[:, frame], strict=True):
                line(lined, found, true, _ERROR_COLOUR, 1)
            picture = cv2.addWeighted(lined, _ERROR_STRENGTH, picture, 1 - _ERROR_STRENGTH, 0)
        draw_points(picture, xy[:, -1], visible[:, -1], self.colours, self.radius)
        return picture


def write_legend(
    picture: np.ndarray,
    painter: Painter,
    corners: Sequence[tuple[float, float]],
    height_px: int,
    room_px: float,
) -> None:
    """Write what the marks of tiles mean.

    Args:
        picture: (H, W, 3) uint8, drawn on.
        painter: Of the tiles.
        corners: Of each entry of ``painter.legend``, as far as there is room: its left end and the
            middle of its height, in pixels.
        height_px: Of the letters.
        room_px: Widest an entry's text may be.
    """
    for place, (text, (left, middle)) in enumerate(zip(painter.legend, corners, strict=False)):
        mark = np.array([[left + 18.0, middle]])
        if place == 2:
            line(picture, mark[0] - (18, 0), mark[0] + (18, 0), _ERROR_COLOUR, 2)
        else:
            radius = min(max(0.3 * height_px, painter.radius), 0.5 * height_px)
            draw_points(picture, mark, np.array([place == 0]), painter.colours[:1], radius)
        write_text(picture, text, (left + 28 + 0.9 * height_px, middle), height_px, SOFT_INK, "lm", room_px)
