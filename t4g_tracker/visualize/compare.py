"""The same query points found with several trackers, side by side: a picture and a video.

After Figures 6 and 7 of Track4Gen's supplement, arXiv:2412.06016: the query points on their
frame, then a row for each tracker whose columns are frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.visualize.drawing import INK, PAPER, SOFT_INK, write_text
from t4g_tracker.visualize.tiles import GAP_PX, WIDEST_PX, Painter, tile_size, write_legend

PICTURE_PX = 2400  # at most so wide, for print
NAME_PX, CAPTION_PX = 30, 24  # heights of the picture's letters
LABEL_PX = 250  # room for them, left of the tiles
VIDEO_NAME_PX, VIDEO_CAPTION_PX = 20, 16
CAPTION_ROOM_PX = 120  # for a caption of the video, as delta_avg 43.1
HIGHEST_PX = 1080  # of the video
_STEP = 1.25  # between lines of text, in heights of their letters


@dataclass(frozen=True)
class Shown:
    """One tracker's row or tile."""

    name: str
    tracks: Tracks
    captions: tuple[tuple[str, bool], ...] = ()  # as ("AJ 43.1", True); true for the best of all


def shown_frames(video: Video, queries: QueryPoints, columns: int) -> list[int]:
    """Choose at most ``columns`` frames, evenly spaced, to compare trackers in.

    A frame that all points are queried in is left out where there are others: every tracker
    has them right there.
    """
    frames = [frame for frame in range(video.frame_count) if not bool((queries.frame == frame).all())]
    frames = frames or list(range(video.frame_count))
    picks = torch.linspace(0, len(frames) - 1, min(columns, len(frames))).round().long().tolist()
    return [frames[pick] for pick in picks]


def compare_picture(
    shown: Sequence[Shown],
    video: Video,
    queries: QueryPoints,
    frame_indices: Sequence[int],
    truth: Tracks | None = None,
) -> np.ndarray:
    """Draw the query points on their frames, then a row of frames for each tracker.

    Args:
        shown: The trackers, in the order of reading, with names and scores for beside the rows.
        video: T frames.
        queries: N query points; they decide the colours. Where they are in more frames than
            there are columns, those with most points are shown.
        frame_indices: Frames to show, 0-based.
        truth: True tracks, if known: a white line then leads from each dot to where the
            point truly is, in frames that see it.

    Returns:
        (H, W, 3) uint8, at most 2400 pixels wide.
    """
    columns = len(frame_indices)
    tile = tile_size(video.size, (PICTURE_PX - LABEL_PX - GAP_PX) / columns - GAP_PX)
    header = CAPTION_PX + 2 * GAP_PX
    captions = max(len(row.captions) for row in shown)
    row_px = max(tile[0], round(NAME_PX + _STEP * CAPTION_PX * captions)) + GAP_PX
    tops = [header + index * row_px + (header if index else 0) for index in range(len(shown) + 1)]
    lefts = [LABEL_PX + column * (tile[1] + GAP_PX) for column in range(columns)]
    # Room for the legend, also where there is a single narrow column.
    width = max(lefts[-1] + tile[1], LABEL_PX + 2 * tile[1] + GAP_PX, LABEL_PX + 420) + GAP_PX
    picture = np.full((tops[-1] + row_px, width, 3), PAPER, np.uint8)
    painter = Painter.make(video, queries, tile, truth)

    def put(index: int, column: int, drawn: np.ndarray, frame: int) -> None:
        y, x = tops[index], lefts[column]
        picture[y : y + tile[0], x : x + tile[1]] = drawn
        if index <= 1:
            middle = (x + tile[1] / 2, y - header / 2 + 1)
            write_text(picture, f"frame {frame}", middle, CAPTION_PX, SOFT_INK, "mm", tile[1])

    asked, asked_in = _as_tracks(queries, video), _query_frames(queries, columns)
    plain = Painter.make(video, queries, tile, None)
    for column, frame in enumerate(asked_in):
        put(0, column, plain.tile(plain.background(frame), asked, frame), frame)
    for column, frame in enumerate(frame_indices):
        background = painter.background(frame)
        for index, row in enumerate(shown):
            put(index + 1, column, painter.tile(background, row.tracks, frame), frame)
    count = len(queries)
    counted = ((f"{count} point{'s' if count != 1 else ''}", False),)
    _write_label(picture, tops[0], tile[0], "query points", counted)
    for index, row in enumerate(shown):
        _write_label(picture, tops[index + 1], tile[0], row.name, row.captions)
    _write_legend(picture, lefts[0] + len(asked_in) * (tile[1] + GAP_PX), tops[0], tile[0], painter)
    return picture


def compare_video(
    shown: Sequence[Shown],
    video: Video,
    queries: QueryPoints,
    truth: Tracks | None = None,
    trail_frames: int = 12,
) -> Iterator[np.ndarray]:
    """Play the trackers beside each other, in rows of at most three, named above each.

    Args:
        shown, video, queries, truth: As in ``compare_picture``.
        trail_frames: Length of the trails in frames; 0 for none.

    Yields:
        T frames (H, W, 3) uint8 of one size with even sides, at most 1600 pixels wide and
        about 1080 high.
    """
    across = 2 if len(shown) == 4 else min(3, len(shown))
    down = math.ceil(len(shown) / across)
    captions = max(len(row.captions) for row in shown)
    tile, label_px, per_line = _video_tile(video, across, down, captions)
    step = (tile[0] + label_px + GAP_PX, tile[1] + GAP_PX)
    size = (down * step[0] + GAP_PX, across * step[1] + GAP_PX)
    sheet = np.full((size[0] + size[0] % 2, size[1] + size[1] % 2, 3), PAPER, np.uint8)
    corners = [
        (label_px + GAP_PX + index // across * step[0], GAP_PX + index % across * step[1])
        for index in range(len(shown))
    ]
    for row, (y, x) in zip(shown, corners, strict=True):
        write_text(sheet, row.name, (x + 1, y - label_px + 15), VIDEO_NAME_PX, INK, "lm", tile[1])
        for place, (text, best) in enumerate(row.captions):
            room = tile[1] / min(per_line, len(row.captions))
            where = (x + 1 + place % per_line * room, y - label_px + 38 + 20 * (place // per_line))
            write_text(sheet, text, where, VIDEO_CAPTION_PX, INK if best else SOFT_INK, "lm", room - 10)
    painter = Painter.make(video, queries, tile, truth)
    for frame in range(video.frame_count):
        picture, background = sheet.copy(), painter.background(frame)
        for row, (y, x) in zip(shown, corners, strict=True):
            drawn = painter.tile(background, row.tracks, frame, trail_frames)
            picture[y : y + tile[0], x : x + tile[1]] = drawn
        yield picture


def _video_tile(video: Video, across: int, down: int, captions: int) -> tuple[Size, int, int]:
    """(H, W) of a tile of the video, pixels of text above it, and captions on a line of it."""
    for per_line in (max(captions, 1), 2):
        label_px = 32 + 20 * math.ceil(captions / per_line)
        highest_px = (HIGHEST_PX - GAP_PX) / down - GAP_PX - label_px
        widest_px = min((WIDEST_PX - GAP_PX) / across - GAP_PX, highest_px * video.size[1] / video.size[0])
        tile = tile_size(video.size, min(widest_px, 960.0))
        if tile[1] >= CAPTION_ROOM_PX * per_line:
            break
    return tile, label_px, per_line


def _as_tracks(queries: QueryPoints, video: Video) -> Tracks:
    """Tracks that are where each point was asked for in its own frame, and nowhere else."""
    shape = (len(queries), video.frame_count)
    xy = torch.full((*shape, 2), float("nan"))
    xy[torch.arange(len(queries)), queries.frame] = queries.xy
    return Tracks(xy, torch.ones(shape, dtype=torch.bool), torch.ones(shape))


def _query_frames(queries: QueryPoints, most: int) -> list[int]:
    """The frames that points are queried in, in order; if there are many, those with most points."""
    frames, counts = queries.frame.unique(return_counts=True)
    return sorted(frames[counts.argsort(descending=True, stable=True)[:most]].tolist())


def _write_label(
    picture: np.ndarray, top: int, height: int, name: str, captions: Sequence[tuple[str, bool]]
) -> None:
    """A name and lines under it, left of a row of tiles, in the middle of its height."""
    room, step = LABEL_PX - 2 * GAP_PX, _STEP * CAPTION_PX
    y = max(top + NAME_PX / 2, top + height / 2 - step * len(captions) / 2)
    write_text(picture, name, (GAP_PX, y), NAME_PX, INK, "lm", room)
    for place, (text, best) in enumerate(captions):
        below = y + 3 + step * (place + 1)
        write_text(picture, text, (GAP_PX, below), CAPTION_PX, INK if best else SOFT_INK, "lm", room)


def _write_legend(picture: np.ndarray, left: int, top: int, height: int, painter: Painter) -> None:
    """What the marks mean, in the free room right of the query points; nothing where there is none."""
    room = picture.shape[1] - left - 80
    if room < 150:
        return
    entries = len(painter.legend)
    middles = [
        top + height / 2 + (place - (entries - 1) / 2) * 1.2 * _STEP * CAPTION_PX for place in range(entries)
    ]
    write_legend(picture, painter, [(left + 18, middle) for middle in middles], CAPTION_PX, room)
