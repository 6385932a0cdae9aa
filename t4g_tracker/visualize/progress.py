"""How the tracks improve while the adapter learns: states of the optimisation side by side.

After Figure 9 of Track4Gen's supplement, arXiv:2412.06016: each row shows where every
query point is found at one state, each column is a frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.visualize.colours import point_colours
from t4g_tracker.visualize.drawing import (
    INK,
    PAPER,
    SOFT_INK,
    dimmed,
    dot_radius,
    draw_points,
    line,
    positions,
    resized,
    write_text,
)

Rows = Sequence[tuple[str, Tracks]]

WIDEST_PX = 1600
GAP_PX = 8  # between tiles
DIM = 0.75
_ERROR_COLOUR = (255, 255, 255)


def progress_picture(
    rows: Rows,
    video: Video,
    queries: QueryPoints,
    frame_indices: Sequence[int],
    truth: Tracks | None = None,
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw a table of frames: one row for each state, one column for each frame.

    Args:
        rows: Label of each state, as "frozen features" or "step 100", and its tracks.
        video: T frames.
        queries: N query points; they decide the colours.
        frame_indices: Frames to show, 0-based.
        truth: True tracks, if known: a white line then leads from each dot to where the
            point truly is, in frames that see it.
        captions: One short line for under each label, as "delta_avg 43.1".

    Returns:
        (H, W, 3) uint8, at most 1600 pixels wide.
    """
    height_px = 17
    label_px = 132
    tile = _tile_size(video.size, (WIDEST_PX - label_px - GAP_PX) / len(frame_indices) - GAP_PX)
    top = 2 * height_px + GAP_PX
    left = label_px + GAP_PX
    height = top + len(rows) * (tile[0] + GAP_PX)
    width = left + len(frame_indices) * (tile[1] + GAP_PX)
    picture = np.full((height, width, 3), PAPER, np.uint8)
    painter = _Painter.make(video, queries, tile, truth)
    for column, frame in enumerate(frame_indices):
        x = left + column * (tile[1] + GAP_PX)
        write_text(picture, f"frame {frame}", (x + tile[1] / 2, top / 2), height_px, SOFT_INK, "mm", tile[1])
        background = painter.background(frame)
        for row, (_, tracks) in enumerate(rows):
            y = top + row * (tile[0] + GAP_PX)
            picture[y : y + tile[0], x : x + tile[1]] = painter.tile(background, tracks, frame)
    for row, (label, _) in enumerate(rows):
        middle = top + row * (tile[0] + GAP_PX) + tile[0] / 2
        lift = 0.7 * height_px if captions else 0
        write_text(picture, label, (GAP_PX + 4, middle - lift), height_px, INK, "lm", label_px - 4)
        if captions:
            write_text(
                picture,
                captions[row],
                (GAP_PX + 4, middle + lift),
                height_px - 2,
                SOFT_INK,
                "lm",
                label_px - 4,
            )
    return picture


def progress_video(
    rows: Rows,
    video: Video,
    queries: QueryPoints,
    truth: Tracks | None = None,
    captions: Sequence[str] | None = None,
) -> Iterator[np.ndarray]:
    """Play the states beside each other, tiled in a grid, a label above each.

    Args:
        rows: Label of each state and its tracks, in the order of reading.
        video, queries, truth, captions: As in ``progress_picture``.

    Yields:
        T frames (H, W, 3) uint8, all of one size, at most 1600 pixels wide.
    """
    across = _columns(len(rows), video.size)
    tile = _tile_size(video.size, min(960.0, (WIDEST_PX - GAP_PX) / across - GAP_PX))
    label_px = 28
    down = math.ceil(len(rows) / across)
    step = (tile[0] + label_px + GAP_PX, tile[1] + GAP_PX)
    sheet = np.full((down * step[0] + GAP_PX, across * step[1] + GAP_PX, 3), PAPER, np.uint8)
    corners = [
        (GAP_PX + index // across * step[0], GAP_PX + index % across * step[1]) for index in range(len(rows))
    ]
    for index, ((label, _), (y, x)) in enumerate(zip(rows, corners, strict=True)):
        middle = y + label_px / 2 - 2
        write_text(sheet, label, (x + 2, middle), 17, INK, "lm", 0.55 * tile[1])
        if captions:
            write_text(sheet, captions[index], (x + tile[1] - 2, middle), 15, SOFT_INK, "rm", 0.4 * tile[1])
    painter = _Painter.make(video, queries, tile, truth)
    for frame in range(video.frame_count):
        picture, background = sheet.copy(), painter.background(frame)
        for (_, tracks), (y, x) in zip(rows, corners, strict=True):
            y += label_px
            picture[y : y + tile[0], x : x + tile[1]] = painter.tile(background, tracks, frame)
        yield picture


def _tile_size(size: Size, widest_px: float) -> Size:
    """(H, W) of a tile that keeps the video's aspect and is neither huge nor tiny."""
    width = max(24.0, min(widest_px, 640.0 if size[1] >= size[0] else 360.0, 2.0 * size[1]))
    return max(16, round(width * size[0] / size[1])), int(width)


def _columns(count: int, size: Size) -> int:
    """How many tiles go side by side so that the grid comes nearest to 16:9."""

    def misfit(across: int) -> float:
        down = math.ceil(count / across)
        empty = across * down - count
        return abs(math.log(across * size[1] / (down * size[0]) / (16 / 9))) + 0.15 * empty

    return min(range(1, count + 1), key=misfit)


@dataclass(frozen=True)
class _Painter:
    """Draws tiles of one video."""

    video: Video
    size: Size  # (H, W) of a tile
    colours: np.ndarray  # (N, 3) uint8
    radius: float  # pixels of a tile
    truth: np.ndarray | None  # (N, T, 2) pixels of a tile, not a number where hidden

    @classmethod
    def make(cls, video: Video, queries: QueryPoints, size: Size, truth: Tracks | None) -> _Painter:
        true_xy = None
        if truth is not None:
            true_xy = positions(truth.xy, video.size, size)
            true_xy[~truth.visibility.cpu().numpy()] = np.nan
        radius = dot_radius(size, len(queries)) + 0.3
        return cls(video, size, point_colours(queries), radius, true_xy)

    def background(self, frame: int) -> np.ndarray:
        return dimmed(resized(self.video.frames[frame], self.size), DIM)

    def tile(self, background: np.ndarray, tracks: Tracks, frame: int) -> np.ndarray:
        """One frame with the points where one state finds them."""
        picture = background.copy()
        xy = positions(tracks.xy[:, frame], self.video.size, self.size)
        if self.truth is not None:
            for found, true in zip(xy, self.truth[:, frame], strict=True):
                line(picture, found, true, _ERROR_COLOUR, 1)
        draw_points(picture, xy, tracks.visibility[:, frame].cpu().numpy(), self.colours, self.radius)
        return picture
