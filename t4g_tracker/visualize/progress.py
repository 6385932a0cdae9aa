"""How the tracks improve while the adapter learns: states of the optimisation side by side.

After Figure 9 of Track4Gen's supplement, arXiv:2412.06016: each row shows where every
query point is found at one state, each column is a frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.visualize.drawing import INK, PAPER, SOFT_INK, write_text
from t4g_tracker.visualize.tiles import (
    GAP_PX,
    WIDEST_PX,
    Painter,
    columns_across,
    tile_size,
    write_legend,
)

Rows = Sequence[tuple[str, Tracks]]

LEGEND_PX = 26  # room for it, below the tiles
_ENTRIES_PX = (0, 95, 205)  # where its entries begin


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
    tile = tile_size(video.size, (WIDEST_PX - label_px - GAP_PX) / len(frame_indices) - GAP_PX)
    top = 2 * height_px + GAP_PX
    left = label_px + GAP_PX
    below = top + len(rows) * (tile[0] + GAP_PX)
    height = below + LEGEND_PX
    width = left + len(frame_indices) * (tile[1] + GAP_PX)
    picture = np.full((height, width, 3), PAPER, np.uint8)
    painter = Painter.make(video, queries, tile, truth)
    for column, frame in enumerate(frame_indices):
        x = left + column * (tile[1] + GAP_PX)
        write_text(picture, f"frame {frame}", (x + tile[1] / 2, top / 2), height_px, SOFT_INK, "mm", tile[1])
        background = painter.background(frame)
        for row, (_, tracks) in enumerate(rows):
            y = top + row * (tile[0] + GAP_PX)
            picture[y : y + tile[0], x : x + tile[1]] = painter.tile(background, tracks, frame)
    _write_legend(picture, painter, left, below)
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
    across = columns_across(len(rows), video.size)
    tile = tile_size(video.size, min(960.0, (WIDEST_PX - GAP_PX) / across - GAP_PX))
    label_px = 28
    down = math.ceil(len(rows) / across)
    step = (tile[0] + label_px + GAP_PX, tile[1] + GAP_PX)
    below = down * step[0] + GAP_PX
    sheet = np.full((below + LEGEND_PX, across * step[1] + GAP_PX, 3), PAPER, np.uint8)
    corners = [
        (GAP_PX + index // across * step[0], GAP_PX + index % across * step[1]) for index in range(len(rows))
    ]
    for index, ((label, _), (y, x)) in enumerate(zip(rows, corners, strict=True)):
        middle = y + label_px / 2 - 2
        write_text(sheet, label, (x + 2, middle), 17, INK, "lm", 0.55 * tile[1])
        if captions:
            write_text(sheet, captions[index], (x + tile[1] - 2, middle), 15, SOFT_INK, "rm", 0.4 * tile[1])
    painter = Painter.make(video, queries, tile, truth)
    _write_legend(sheet, painter, GAP_PX, below)
    for frame in range(video.frame_count):
        picture, background = sheet.copy(), painter.background(frame)
        for (_, tracks), (y, x) in zip(rows, corners, strict=True):
            y += label_px
            picture[y : y + tile[0], x : x + tile[1]] = painter.tile(background, tracks, frame)
        yield picture


def _write_legend(picture: np.ndarray, painter: Painter, left: float, top: float) -> None:
    """What the marks mean, in a line below the tiles; as much of it as there is room for."""
    middle = top + LEGEND_PX / 2 - GAP_PX / 2
    room = picture.shape[1] - left - 60
    write_legend(picture, painter, [(left + x, middle) for x in _ENTRIES_PX if x + 60 < room], 15, room)
