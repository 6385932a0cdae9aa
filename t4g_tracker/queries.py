"""Choosing query points: from a file, as a grid over a frame, or as a grid inside a mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from t4g_tracker.coordinates import inside
from t4g_tracker.datatypes import QueryPoints, Video
from t4g_tracker.errors import QueryError
from t4g_tracker.masks import check_mask
from t4g_tracker.query_formats import FORMATS, QueryRow


def read_queries(path: str | Path, video: Video) -> QueryPoints:
    """Read query points from a JSON, CSV, npy or npz file.

    All points are checked against the video, before any work. JSON holds
    ``{"queries": [{"frame": 0, "x": 12.5, "y": 40, "name": "nose"}, ...]}``, or the list
    alone, or a list of ``[frame, x, y]``. CSV (UTF-8) has the columns frame, x, y and
    optionally name, in any order under a header, or in this order without one. npy holds
    an (N, 3) array of frame, x, y; npz holds it as ``queries``, optionally with ``names``,
    like the tracks.npz of a run.

    Args:
        path: The file; its extension gives the format.
        video: The points must lie in its frames.

    Returns:
        N >= 1 query points in the order of the file, positions in original pixels, at
        most half a pixel outside the border pixels' centres. A point without a name is
        called point-0, point-1, ... after its place in the file, or, if that name is
        taken, after the first free number from N on.

    Raises:
        QueryError: If the file cannot be read or is malformed, if a field is missing,
            unknown or not a finite number, if a point lies outside the frames, if two
            points share a name, or if there are no points.
    """
    path = Path(path)
    rows_of = FORMATS.get(path.suffix.lower())
    if rows_of is None:
        extension = f"the extension {path.suffix}" if path.suffix else "no extension"
        raise QueryError(f"{path}: has {extension}; give query points as {', '.join(FORMATS)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise QueryError(f"{path}: cannot be read ({error.strerror}); give an existing file") from error
    if not data.strip(b" \t\r\n\xef\xbb\xbf"):
        raise QueryError(f"{path}: is empty; give at least one query point as frame, x, y")
    try:
        rows = rows_of(data)
        check_in_video(rows, video)
        names = _complete_names(rows)
    except QueryError as error:
        raise QueryError(f"{path}: {error}") from error
    return QueryPoints(
        frame=torch.tensor([int(row.frame) for row in rows]),
        xy=torch.tensor([(row.x, row.y) for row in rows], dtype=torch.float32),
        names=names,
    )


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
        raise QueryError(f"{video.source}: the grid is in frame {frame}, but {_described_frames(video)}")
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
    if len(xy) == 0:
        raise QueryError(
            f"{video.source}: no grid point lies inside the mask; give more than {across} points across"
        )
    return QueryPoints(
        frame=torch.full((len(xy),), frame),
        xy=torch.from_numpy(xy.astype(np.float32)),
        names=tuple(f"point-{index}" for index in range(len(xy))),
    )


def _described_frames(video: Video) -> str:
    return f"{video.source} has {video.frame_count} frames (0-{video.frame_count - 1})"


def check_in_video(rows: Sequence[QueryRow], video: Video) -> None:
    """Raise QueryError if there are no points, or one is not in a frame of the video."""
    if not rows:
        raise QueryError("holds no query points; give at least one as frame, x, y")
    for row in rows:
        for field, value in (("frame", row.frame), ("x", row.x), ("y", row.y)):
            if not math.isfinite(value):
                raise QueryError(f"{row.where}: {field} must be a finite number, got {value}")
        if row.frame != int(row.frame):
            raise QueryError(f"{row.where}: frame must be a whole number, got {row.frame}")
        if not 0 <= row.frame < video.frame_count:
            raise QueryError(f"{row.where} is in frame {row.frame:.10g}, but {_described_frames(video)}")
    xy = torch.tensor([(row.x, row.y) for row in rows], dtype=torch.float64)
    for row, is_inside in zip(rows, inside(xy, video.size).tolist(), strict=True):
        if not is_inside:
            height, width = video.size
            raise QueryError(
                f"{row.where} is at x = {row.x:.10g}, y = {row.y:.10g}, outside {video.source}; "
                f"x must be 0 to {width - 1} and y 0 to {height - 1}, give or take half a pixel"
            )


def _complete_names(rows: Sequence[QueryRow]) -> tuple[str, ...]:
    """Fill in missing names, and refuse a name used twice."""
    owner: dict[str, QueryRow] = {}
    for row in rows:
        if row.name is None:
            continue
        if row.name in owner:
            raise QueryError(f"{row.where} has the same name as {owner[row.name].where}; give each its own")
        owner[row.name] = row
    names, spare = [], len(rows)
    for index, row in enumerate(rows):
        name = row.name or f"point-{index}"
        while row.name is None and name in owner:
            name, spare = f"point-{spare}", spare + 1
        names.append(name)
    return tuple(names)
