"""The same query points found in several ways, side by side: a picture of rows of frames, and a film.

After Figures 6, 7 and 9 of Track4Gen's supplement, arXiv:2412.06016: the query points on their
frames, then a row for each tracker, or for each state of the optimisation, whose columns are frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.results import Result, best_measures
from t4g_tracker.tables import rounded
from t4g_tracker.visualize.painting import INK, PAPER, SOFT_INK, fitting_height, text_width, write_text
from t4g_tracker.visualize.tiles import GAP_PX, Painter, columns_across, tile_size, write_legend

PICTURE_PX = 2400  # at most so wide, for print
NAME_PX, CAPTION_PX = 30, 24  # heights of the picture's letters
LABEL_PX = 250  # room for them, left of the tiles
HEADER_PX = CAPTION_PX + 2 * GAP_PX  # room for the frame's number, above a tile
LEGEND_PX = 600  # the narrowest that a legend fits in

SCREEN_PX = (1080, 1600)  # a film is at most so high and wide
FILM_NAME_PX, FILM_CAPTION_PX = 20, 16
_STEP = 1.25  # between lines of text, in heights of their letters
_SPACE = "     "  # between captions on a line

Captions = Sequence[tuple[str, bool]]  # as ("AJ 43.1", True); true for the best of all results


def shown_frames(video: Video, queries: QueryPoints, columns: int) -> list[int]:
    """Choose at most ``columns`` frames, evenly spaced, to show results in.

    A frame that all points are queried in is left out if there are others: every tracker has
    them right there.
    """
    frames = [frame for frame in range(video.frame_count) if not bool((queries.frame == frame).all())]
    frames = frames or list(range(video.frame_count))
    picks = torch.linspace(0, len(frames) - 1, min(columns, len(frames))).round().long().tolist()
    return [frames[pick] for pick in picks]


def sheet_picture(
    results: Sequence[Result],
    video: Video,
    queries: QueryPoints,
    frame_indices: Sequence[int],
    truth: Tracks | None,
    dim: float,
) -> np.ndarray:
    """Paint the query points on their frames, then a row of frames for each result.

    Args:
        results: In the order of reading, with names and measures for beside the rows.
        video: T frames.
        queries: N query points; they decide the colours. Where they are in more frames than
            there are columns, those with most points are shown.
        frame_indices: Frames to show, 0-based.
        truth: True tracks, if known: a white line then leads from each dot to where the
            point truly is, in frames that see it.
        dim: Brightness of the video behind, 0..1.

    Returns:
        (H, W, 3) uint8, at most 2400 pixels wide.
    """
    columns = len(frame_indices)
    size = tile_size(video.size, (PICTURE_PX - LABEL_PX - GAP_PX) / columns - GAP_PX)
    painter = Painter.make(video, queries, size, truth, dim)
    counted = f"{len(queries)} point{'s' if len(queries) != 1 else ''}"
    rows: list[tuple[str, Captions, Tracks, Painter, Sequence[int]]] = [
        (result.name, captions, result.own_tracks, painter, frame_indices)
        for result, captions in zip(results, _captions(results), strict=True)
    ]
    queried = _as_tracks(queries, video), Painter.make(video, queries, size, None, dim)
    rows.insert(0, ("query points", [(counted, False)], *queried, _query_frames(queries, columns)))

    lines = max(len(captions) for _, captions, *_ in rows)
    row_px = max(size[0], round(NAME_PX + _STEP * CAPTION_PX * lines)) + GAP_PX
    width = LABEL_PX + max(columns * (size[1] + GAP_PX), LEGEND_PX)
    picture = np.full((len(rows) * row_px + 3 * HEADER_PX, width, 3), PAPER, np.uint8)
    top = 0
    for index, (name, captions, tracks, row_painter, frames) in enumerate(rows):
        top += HEADER_PX if index < 2 else 0
        _write_label(picture, top, size[0], name, captions)
        for column, frame in enumerate(frames):
            left = LABEL_PX + column * (size[1] + GAP_PX)
            painted = row_painter.tile(row_painter.background(frame), tracks, frame)
            picture[top : top + size[0], left : left + size[1]] = painted
            if index < 2:
                middle = (left + size[1] / 2, top - HEADER_PX / 2 + 1)
                write_text(picture, f"frame {frame}", middle, CAPTION_PX, SOFT_INK, "mm", size[1])
        top += row_px
    write_legend(picture, painter, (LABEL_PX, top + HEADER_PX / 2 - GAP_PX / 2), CAPTION_PX)
    return picture


def sheet_video(
    results: Sequence[Result],
    video: Video,
    queries: QueryPoints,
    truth: Tracks | None,
    dim: float,
    trail_frames: int = 0,
) -> Iterator[np.ndarray]:
    """Play the results beside each other, each below its name and measures.

    Args:
        results, video, queries, truth, dim: As in ``sheet_picture``.
        trail_frames: Length of the trails in frames; 0 for none.

    Yields:
        T frames (H, W, 3) uint8 of one size, at most 1600 pixels wide and about 1080 high.
    """
    across = columns_across(len(results), video.size)
    down = math.ceil(len(results) / across)
    captions = _captions(results)
    label_px = 52 if any(captions) else 32
    below_px = 2 * FILM_CAPTION_PX
    highest_px = (SCREEN_PX[0] - below_px - GAP_PX) / down - GAP_PX - label_px
    widest_px = (SCREEN_PX[1] - GAP_PX) / across - GAP_PX
    size = tile_size(video.size, min(widest_px, highest_px * video.size[1] / video.size[0]))
    step = (size[0] + label_px + GAP_PX, size[1] + GAP_PX)
    sheet = np.full((down * step[0] + GAP_PX + below_px, across * step[1] + GAP_PX, 3), PAPER, np.uint8)
    corners = [
        (label_px + GAP_PX + index // across * step[0], GAP_PX + index % across * step[1])
        for index in range(len(results))
    ]
    for result, texts, (y, x) in zip(results, captions, corners, strict=True):
        write_text(sheet, result.name, (x + 1, y - label_px + 15), FILM_NAME_PX, INK, "lm", size[1])
        _write_beside(sheet, texts, (x + 1, y - 14), size[1])
    painter = Painter.make(video, queries, size, truth, dim)
    write_legend(sheet, painter, (GAP_PX, sheet.shape[0] - below_px / 2 - GAP_PX / 2), FILM_CAPTION_PX)
    for frame in range(video.frame_count):
        picture, background = sheet.copy(), painter.background(frame)
        for result, (y, x) in zip(results, corners, strict=True):
            painted = painter.tile(background, result.own_tracks, frame, trail_frames)
            picture[y : y + size[0], x : x + size[1]] = painted
        yield picture


def _captions(results: Sequence[Result]) -> list[Captions]:
    """Measures as short texts, the best of each marked."""
    best = best_measures(results)
    return [
        [(f"{name} {rounded(value)}", value == best.get(name)) for name, value in result.measures.items()]
        for result in results
    ]


def _as_tracks(queries: QueryPoints, video: Video) -> Tracks:
    """Tracks that are where each point is queried, in that frame, and nowhere else."""
    shape = (len(queries), video.frame_count)
    xy = torch.full((*shape, 2), float("nan"))
    xy[torch.arange(len(queries)), queries.frame] = queries.xy
    return Tracks.known(xy, torch.ones(shape, dtype=torch.bool))


def _query_frames(queries: QueryPoints, most: int) -> list[int]:
    """The frames that points are queried in, in order; if there are many, those with most points."""
    frames, counts = queries.frame.unique(return_counts=True)
    return sorted(frames[counts.argsort(descending=True, stable=True)[:most]].tolist())


def _write_label(picture: np.ndarray, top: int, height: int, name: str, captions: Captions) -> None:
    """A name and lines under it, left of a row of tiles, in the middle of its height."""
    room, step = LABEL_PX - 2 * GAP_PX, _STEP * CAPTION_PX
    y = max(top + NAME_PX / 2, top + height / 2 - step * len(captions) / 2)
    write_text(picture, name, (GAP_PX, y), NAME_PX, INK, "lm", room)
    for place, (text, best) in enumerate(captions):
        below = y + 3 + step * (place + 1)
        write_text(picture, text, (GAP_PX, below), CAPTION_PX, INK if best else SOFT_INK, "lm", room)


def _write_beside(picture: np.ndarray, captions: Captions, xy: tuple[float, float], room: float) -> None:
    """Captions on one line, in letters small enough for it."""
    height_px = fitting_height(_SPACE.join(text for text, _ in captions), FILM_CAPTION_PX, room)
    x, y = xy
    for text, best in captions:
        write_text(picture, text, (x, y), height_px, INK if best else SOFT_INK)
        x += text_width(text + _SPACE, height_px)
