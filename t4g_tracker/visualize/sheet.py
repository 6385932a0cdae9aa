"""Sheets: several results for the same query points side by side, as a picture and as a film.

The picture follows Figures 6, 7 and 9 of Track4Gen's supplement, arXiv:2412.06016: the query points on
their frames, then a row for each tracker, or for each snapshot of the optimisation, with frames as columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.results import Result, best_measures
from t4g_tracker.tables import rounded
from t4g_tracker.threads import in_threads
from t4g_tracker.visualize.painting import INK, PAPER, SOFT_INK, fitting_height, text_width, write_text
from t4g_tracker.visualize.tiles import GAP_PX, Painter, columns_across, shown_size, tile_size, write_legend

PICTURE_PX = 2400  # largest width of the picture, enough for print
NAME_PX, CAPTION_PX = 30, 24  # heights of the picture's letters
LABEL_PX = 250  # width of names and captions, left of the tiles
HEADER_PX = CAPTION_PX + 2 * GAP_PX  # height of the frame's number, above a tile
LEGEND_PX = 600  # smallest width that a legend fits in

SCREEN_PX = (1080, 1600)  # largest height and width of the film
FILM_NAME_PX, FILM_CAPTION_PX = 20, 16
_STEP = 1.25  # between lines of text, in heights of their letters
_SPACE = "     "  # between captions on a line

Captions = Sequence[tuple[str, bool]]  # such as ("AJ 43.1", True); True for the best of all results


def shown_frames(video: Video, queries: QueryPoints, columns: int) -> list[int]:
    """Choose at most ``columns`` frames, evenly spaced, to show results in.

    A frame in which all points are queried is left out if there are others, since every tracker
    is right there.
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
        results: In the order of rows, with names and measures to write beside them.
        video: T frames.
        queries: N query points, which decide the colours. If they are in more frames than
            there are columns, the frames with most points are shown.
        frame_indices: Frames to show, 0-based.
        truth: True tracks, if known: a white line then leads from each dot to the true
            position, in frames where the point is visible.
        dim: Brightness of the video behind, 0..1.

    Returns:
        (H, W, 3) uint8, at most 2400 pixels wide.
    """
    columns = len(frame_indices)
    size = tile_size(shown_size(video), (PICTURE_PX - LABEL_PX - GAP_PX) / columns - GAP_PX)
    width = LABEL_PX + max(columns * (size[1] + GAP_PX), LEGEND_PX)
    painter, plain = (Painter.make(video, queries, size, known, dim) for known in (truth, None))
    counted = f"{len(queries)} point{'s' if len(queries) != 1 else ''}"
    queried_in = _query_frames(queries, columns)
    queried = Result("query points", _as_tracks(queries, video))
    legend = _paper(HEADER_PX, width)
    write_legend(legend, painter, (LABEL_PX, HEADER_PX / 2 - GAP_PX / 2), CAPTION_PX)
    return np.concatenate(
        [
            _frame_numbers(queried_in, video.start_frame, size, width),
            _row(queried, [(counted, False)], queried_in, plain, width),
            _frame_numbers(frame_indices, video.start_frame, size, width),
            *(
                _row(result, captions, frame_indices, painter, width)
                for result, captions in zip(results, _captions(results), strict=True)
            ),
            legend,
        ]
    )


def _paper(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), PAPER, np.uint8)


def _left_edges(count: int, size: Size) -> list[int]:
    """The left edges of the tiles of a row."""
    return [LABEL_PX + column * (size[1] + GAP_PX) for column in range(count)]


def _frame_numbers(frames: Sequence[int], start_frame: int, size: Size, width: int) -> np.ndarray:
    """Paint a strip (H, width, 3) with the frame numbers of the tiles below it, as the user counts."""
    strip = _paper(HEADER_PX, width)
    for frame, left in zip(frames, _left_edges(len(frames), size), strict=True):
        middle = (left + size[1] / 2, HEADER_PX / 2 + 1)
        write_text(strip, f"frame {start_frame + frame}", middle, CAPTION_PX, SOFT_INK, "mm", size[1])
    return strip


def _row(
    result: Result, captions: Captions, frames: Sequence[int], painter: Painter, width: int
) -> np.ndarray:
    """Paint a strip (H, width, 3) of tiles, with name and captions to their left, vertically centred."""
    (height, tile_px), step, room = painter.size, _STEP * CAPTION_PX, LABEL_PX - 2 * GAP_PX
    strip = _paper(max(height, round(NAME_PX + step * len(captions))) + GAP_PX, width)
    y = max(NAME_PX / 2, height / 2 - step * len(captions) / 2)
    write_text(strip, result.name, (GAP_PX, y), NAME_PX, INK, "lm", room)
    for place, (text, best) in enumerate(captions):
        below = (GAP_PX, y + 3 + step * (place + 1))
        write_text(strip, text, below, CAPTION_PX, INK if best else SOFT_INK, "lm", room)
    marks = painter.marks(result.own_tracks)
    for frame, left in zip(frames, _left_edges(len(frames), painter.size), strict=True):
        tile = painter.tile(painter.background(frame), marks, frame)
        strip[:height, left : left + tile_px] = tile
    return strip


def sheet_video(
    results: Sequence[Result],
    video: Video,
    queries: QueryPoints,
    truth: Tracks | None,
    dim: float,
    trail_frames: int = 0,
) -> Iterator[np.ndarray]:
    """Play the results side by side, each below its name and measures.

    Args:
        results, video, queries, truth, dim: As in ``sheet_picture``.
        trail_frames: Length of the trails in frames; 0 for none.

    Returns:
        Iterator of T frames (H, W, 3) uint8 of one size, at most 1600 pixels wide and about 1080 high.
    """
    # Lay out the tiles.
    shown = shown_size(video)
    across = columns_across(len(results), shown)
    down = math.ceil(len(results) / across)
    captions = _captions(results)
    label_px = 52 if any(captions) else 32
    below_px = 2 * FILM_CAPTION_PX
    highest_px = (SCREEN_PX[0] - below_px - GAP_PX) / down - GAP_PX - label_px
    widest_px = (SCREEN_PX[1] - GAP_PX) / across - GAP_PX
    size = tile_size(shown, min(widest_px, highest_px * shown[1] / shown[0]))
    step = (size[0] + label_px + GAP_PX, size[1] + GAP_PX)
    sheet = _paper(down * step[0] + GAP_PX + below_px, across * step[1] + GAP_PX)
    corners = [
        (label_px + GAP_PX + index // across * step[0], GAP_PX + index % across * step[1])
        for index in range(len(results))
    ]
    # Write names, measures and legend once.
    for result, texts, (y, x) in zip(results, captions, corners, strict=True):
        write_text(sheet, result.name, (x + 1, y - label_px + 15), FILM_NAME_PX, INK, "lm", size[1])
        _write_captions(sheet, texts, (x + 1, y - 14), size[1])
    painter = Painter.make(video, queries, size, truth, dim)
    write_legend(sheet, painter, (GAP_PX, sheet.shape[0] - below_px / 2 - GAP_PX / 2), FILM_CAPTION_PX)
    # Paint the tiles of each frame.
    marks = [painter.marks(result.own_tracks) for result in results]

    def played(frame: int) -> np.ndarray:
        picture, background = sheet.copy(), painter.background(frame)
        for found, (y, x) in zip(marks, corners, strict=True):
            painted = painter.tile(background, found, frame, trail_frames)
            picture[y : y + size[0], x : x + size[1]] = painted
        return picture

    return in_threads(played, range(video.frame_count))  # while earlier ones are encoded


def _captions(results: Sequence[Result]) -> list[Captions]:
    """Write measures as short texts, and mark the best of each."""
    best = best_measures(results)
    return [
        [(f"{name} {rounded(value)}", value == best.get(name)) for name, value in result.measures.items()]
        for result in results
    ]


def _as_tracks(queries: QueryPoints, video: Video) -> Tracks:
    """Make tracks that have each point in its query frame and nowhere else."""
    shape = (len(queries), video.frame_count)
    xy = torch.full((*shape, 2), float("nan"))
    xy[torch.arange(len(queries)), queries.frame] = queries.xy
    return Tracks.known(xy, torch.ones(shape, dtype=torch.bool))


def _query_frames(queries: QueryPoints, limit: int) -> list[int]:
    """List the query frames in order; above ``limit``, those with most points."""
    frames, counts = queries.frame.unique(return_counts=True)
    return sorted(frames[counts.argsort(descending=True, stable=True)[:limit]].tolist())


def _write_captions(picture: np.ndarray, captions: Captions, xy: tuple[float, float], room: float) -> None:
    """Write captions on one line, in letters small enough for it."""
    height_px = fitting_height(_SPACE.join(text for text, _ in captions), FILM_CAPTION_PX, room)
    x, y = xy
    for text, best in captions:
        write_text(picture, text, (x, y), height_px, INK if best else SOFT_INK)
        x += text_width(text + _SPACE, height_px)
