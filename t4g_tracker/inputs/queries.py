"""Choosing query points: from a file, as a grid over a frame, or as a grid inside a mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from t4g_tracker.datatypes import QueryPoints, Video
from t4g_tracker.errors import QueryError, warn
from t4g_tracker.inputs.input_files import open_input
from t4g_tracker.inputs.masks import check_mask
from t4g_tracker.inputs.query_formats import FORMATS, points_of_arrays
from t4g_tracker.inputs.query_table import (
    MOST_POINTS,
    QueryTable,
    check_in_video,
    complete_names,
    described_frames,
    refuse_fractions,
)

MOST_TEXT_BYTES = 2**25  # of a file of JSON or CSV: over 300 for each of the most points
MOST_ARRAY_BYTES = 2**32  # of a file of arrays: of a tracks.npz, only the points are read


def read_queries(path: str | Path, video: Video) -> QueryPoints:
    """Read query points from a JSON, CSV, npy or npz file.

    All points are checked against the video, before any work. JSON holds
    ``{"queries": [{"frame": 0, "x": 12.5, "y": 40, "name": "nose"}, ...]}``, or the list
    alone, or a list of ``[frame, x, y]``. CSV (csv, tsv, txt) has the columns frame, x, y and
    optionally name, in any order under a header, or in this order without one. npy holds
    an (N, 3) array of frame, x, y; npz holds it as ``queries``, optionally with ``names``.
    Frames count from ``video.start_frame``, but in a tracks.npz of a run from 0, since they
    index its own ``tracks``.

    Args:
        path: The file; its extension gives the format.
        video: The points must lie in its frames.

    Returns:
        N >= 1 query points in the order of the file, frames 0-based, positions in original pixels,
        at most half a pixel outside the border pixels' centres. A point without a name is
        called point-0, point-1, ... after its place in the file, or, if that name is
        taken, after the first free number from N on.

    Raises:
        QueryError: If the file cannot be read or is malformed, if a field is missing,
            unknown or not a finite number, if a point lies outside the frames, if all look like
            fractions of the frame, if two points share a name or results could not hold one, or if
            there are no points or more than ``MOST_POINTS``.
    """
    path = Path(path)
    points_of = FORMATS.get(path.suffix.lower())
    if points_of is None:
        extension = f"the extension {path.suffix}" if path.suffix else "no extension"
        raise QueryError(f"{path}: has {extension}; give query points as {', '.join(FORMATS)}")
    most_bytes = MOST_ARRAY_BYTES if points_of is points_of_arrays else MOST_TEXT_BYTES
    with open_input(path, most_bytes, QueryError, "a file of query points: frame, x, y") as file:
        try:
            table = _renumbered(points_of(file), video, path)
            refuse_fractions(table.xy, video.size)
            check_in_video(table, video)
            names = complete_names(table)
        except QueryError as error:
            raise QueryError(f"{path}: {error}") from error
    _warn_if_counted_from_first_file(table, video, path)
    if table.doubt:
        warn(f"{path}: {table.doubt}")
    return QueryPoints(
        frame=torch.from_numpy(table.frame.astype(np.int64) - video.start_frame),
        xy=torch.from_numpy(table.xy.astype(np.float32)),
        names=names,
    )


def _warn_if_counted_from_first_file(table: QueryTable, video: Video, path: Path) -> None:
    """Warn if frames count from 0, but may be meant as the numbers in the names of a folder's files."""
    first = video.first_file_number
    if video.start_frame == 0 and table.clip is None and first and table.frame.min() >= first:
        lowest, highest = table.frame.min(), table.frame.max()
        warn(
            f"{path}: its frames, {lowest:.0f} to {highest:.0f}, count from 0, but the names of files in "
            f"{video.source} begin with {first}; if they count so, give --start-frame {first}"
        )


def _renumbered(table: QueryTable, video: Video, path: Path) -> QueryTable:
    """Bring the frames of points from a tracks.npz, which count from 0 in its clip, to the video's numbers.

    Raises:
        QueryError: If the clip is of another size, or is another part of a video.
    """
    clip = table.clip
    if clip is None:
        return table
    if clip.size is not None and clip.size != video.size:
        raise QueryError(
            f"its points are of a video of {clip.size[1]}x{clip.size[0]}, but {video.source} is "
            f"{video.size[1]}x{video.size[0]}; scale them, and give them as CSV or JSON"
        )
    first = clip.start_frame
    if first != video.start_frame:
        count = clip.frame_count or video.frame_count
        end, video_end = first + count, video.start_frame + video.frame_count
        nested = (first <= video.start_frame and video_end <= end) or (
            video.start_frame <= first and end <= video_end
        )
        if count == video.frame_count:
            warn(
                f"{path}: its frames count from {first} and those of {video.source} from "
                f"{video.start_frame}; they are taken for the same frames"
            )
            first = video.start_frame
        elif not nested:
            raise QueryError(
                f"its points are of {count} frames from {first} on, but {described_frames(video)}; "
                "give --start-frame and --frames as in that run, or the points as CSV or JSON"
            )
    return replace(table, frame=table.frame + first)


def grid_queries(video: Video, across: int, frame: int = 0, mask: np.ndarray | None = None) -> QueryPoints:
    """Spread query points evenly over one frame, or over an object in it.

    The spacing is square: ``across`` points share the width, and as many rows of the same
    spacing as fit share the height. What is left over is split between the margins.

    Args:
        video: The video of the points.
        across: Points in a full row, from 1 to the width in pixels; with a mask, the width
            is that of its bounding box.
        frame: The frame that the points are in, 0-based.
        mask: (H, W) bool, the size of the video; points outside it are dropped.

    Returns:
        N >= 1 query points row by row, named point-0, point-1, ...

    Raises:
        QueryError: If ``across`` or ``frame`` is out of range, or the mask has another size
            or contains no grid point.
    """
    if not 0 <= frame < video.frame_count:
        number = frame + video.start_frame
        described = described_frames(video).removeprefix(f"{video.source} ")
        raise QueryError(
            f"{video.source}: {described}, but the grid is in frame {number}; choose one of them"
        )
    if mask is None:
        mask = np.ones(video.size, dtype=bool)
    check_mask(mask, video, f"{video.source}: the mask")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = rows[0], columns[0]
    box_height, box_width = rows[-1] - top + 1, columns[-1] - left + 1
    if not 1 <= across <= box_width:
        raise QueryError(
            f"{video.source}: a grid here has 1 to {box_width} points across, got {across}; "
            "more would be under a pixel apart"
        )
    spacing_px = box_width / across
    down = max(1, int(box_height / spacing_px + 1e-9))
    x = left - 0.5 + box_width / 2 + spacing_px * (np.arange(across) - (across - 1) / 2)
    y = top - 0.5 + box_height / 2 + spacing_px * (np.arange(down) - (down - 1) / 2)
    xy = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    pixel = np.floor(xy + 0.5).astype(np.int64)
    xy = xy[mask[pixel[:, 1], pixel[:, 0]]]
    if len(xy) > MOST_POINTS:
        raise QueryError(
            f"{video.source}: the grid has {len(xy)} points, but one run tracks at most {MOST_POINTS}; "
            f"give fewer than {across} points across"
        )
    if len(xy) == 0:
        raise QueryError(
            f"{video.source}: no grid point lies inside the mask; give more than {across} points across"
        )
    return QueryPoints(
        frame=torch.full((len(xy),), frame),
        xy=torch.from_numpy(xy.astype(np.float32)),
        names=tuple(f"point-{index}" for index in range(len(xy))),
    )
