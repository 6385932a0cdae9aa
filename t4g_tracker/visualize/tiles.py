"""Tiles: small pictures of one video, side by side, each with other tracks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.visualize.colours import point_colours
from t4g_tracker.visualize.painting import (
    SOFT_INK,
    dimmed,
    dot_radius,
    paint_line,
    paint_points,
    positions,
    resized,
    text_width,
    write_text,
)
from t4g_tracker.visualize.trails import joined_steps, paint_trails

GAP_PX = 8  # between tiles
_LEGEND = ("visible", "hidden", "to the true position")
_ERROR_COLOUR = (255, 255, 255)
_ERROR_STRENGTH = 0.45  # errors of frozen features are large: their lines must not cover the points


def shown_size(video: Video) -> Size:
    """The (H, W) of a video as a player shows it, in square pixels."""
    return video.size[0], max(1, round(video.size[1] * video.pixel_aspect))


def tile_size(size: Size, widest_px: float) -> Size:
    """Choose the (H, W) of a tile with the video's aspect, neither huge nor tiny."""
    width = max(24.0, min(widest_px, 640.0 if size[1] >= size[0] else 360.0, 2.0 * size[1]))
    return max(16, round(width * size[0] / size[1])), int(width)


def columns_across(count: int, size: Size) -> int:
    """Choose how many of ``count`` tiles go side by side, so that the grid is nearest to 16:9."""

    def misfit(across: int) -> float:
        down = math.ceil(count / across)
        empty = across * down - count
        return round(abs(math.log(across * size[1] / (down * size[0]) / (16 / 9))) + 0.15 * empty, 6)

    return min(range(count, 0, -1), key=misfit)


@dataclass(frozen=True)
class Marks:
    """The tracks of one result, ready to be painted on tiles."""

    xy: np.ndarray  # (N, T, 2) pixels of a tile
    visible: np.ndarray  # (N, T) bool
    joined: np.ndarray  # (N, T - 1) bool, which steps a trail shows


@dataclass(frozen=True)
class Painter:
    """Paints tiles of one video."""

    video: Video
    size: Size  # (H, W) of a tile
    colours: np.ndarray  # (N, 3) uint8
    radius: float  # pixels of a tile
    truth: np.ndarray | None  # (N, T, 2) pixels of a tile, NaN where hidden
    dim: float  # brightness of the video, 0..1

    @classmethod
    def make(
        cls, video: Video, queries: QueryPoints, size: Size, truth: Tracks | None, dim: float
    ) -> Painter:
        """Make a painter; if true tracks are known, its lines lead to them."""
        true_xy = None
        if truth is not None:
            true_xy = positions(truth.xy, video.size, size)
            true_xy[~truth.visibility.cpu().numpy()] = np.nan
        radius = dot_radius(size, len(queries)) + 0.3
        return cls(video, size, point_colours(queries), radius, true_xy, dim)

    @property
    def legend(self) -> tuple[str, ...]:
        """The meanings of the marks: visible, hidden and, if the truth is known, the line to it."""
        return _LEGEND if self.truth is not None else _LEGEND[:2]

    def background(self, frame: int) -> np.ndarray:
        """A frame of the video at the tile's size (H, W, 3), dimmed."""
        return dimmed(resized(self.video.frames[frame], self.size), self.dim)

    def marks(self, tracks: Tracks) -> Marks:
        """Convert tracks to the pixels of a tile."""
        xy, visible = positions(tracks.xy, self.video.size, self.size), tracks.visibility.cpu().numpy()
        return Marks(xy, visible, joined_steps(xy, visible, self.size))

    def tile(self, background: np.ndarray, marks: Marks, frame: int, trail_frames: int = 0) -> np.ndarray:
        """Paint the points of a result, with trails, on one frame."""
        xy, first = marks.xy[:, frame], max(0, frame - trail_frames)
        picture = background.copy()
        if first < frame:
            past, joined = marks.xy[:, first : frame + 1], marks.joined[:, first:frame]
            picture = paint_trails(picture, past, joined, self.colours, self.radius, trail_frames)
        if self.truth is not None:
            lines = picture.copy()
            for tracked, true in zip(xy, self.truth[:, frame], strict=True):
                paint_line(lines, tracked, true, _ERROR_COLOUR, 1)
            picture = cv2.addWeighted(lines, _ERROR_STRENGTH, picture, 1 - _ERROR_STRENGTH, 0)
        paint_points(picture, xy, marks.visible[:, frame], self.colours, self.radius)
        return picture


def write_legend(
    picture: np.ndarray, painter: Painter, left_middle: tuple[float, float], height_px: int
) -> None:
    """Write the meanings of the tiles' marks on one line, as many as fit.

    Args:
        picture: (H, W, 3) uint8, changed in place.
        painter: The painter of the tiles.
        left_middle: Left end of the line and the middle of its height, (x, y) in pixels.
        height_px: Height of the letters.
    """
    x, y = left_middle
    radius = min(max(0.3 * height_px, painter.radius), 0.5 * height_px)
    for place, text in enumerate(painter.legend):
        long = place == 2  # the line to the truth
        mark_px = 36.0 if long else float(height_px)
        end = x + mark_px + 0.5 * height_px + text_width(text, height_px)
        if end > picture.shape[1]:
            return
        mark = np.array([x + mark_px / 2, y])
        if long:
            half = np.array([mark_px / 2, 0])
            paint_line(picture, mark - half, mark + half, _ERROR_COLOUR, 2)
        else:
            paint_points(picture, mark[None], np.array([place == 0]), painter.colours[:1], radius)
        write_text(picture, text, (x + mark_px + 0.5 * height_px, y), height_px, SOFT_INK)
        x = end + 1.5 * height_px
