"""Tracks on disk: ``tracks.npz``, written and read, and ``tracks.csv``, written."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.errors import QueryError
from t4g_tracker.inputs.array_files import ArrayFile
from t4g_tracker.inputs.frame_times import frame_times
from t4g_tracker.inputs.input_files import open_input
from t4g_tracker.inputs.query_formats import names_of, size_of, start_frame_of
from t4g_tracker.inputs.query_table import QueryTable, check_count, complete_names
from t4g_tracker.storage.files import atomic_write
from t4g_tracker.tables import spreadsheet_text

MOST_FILE_BYTES = 2**32
MOST_ARRAY_BYTES = 2**31  # a thousand frames of 100 000 points take 0.8 GB

# Files of version 0.1 lack times, start_frame and pixel_aspect.
_NEEDED = ("tracks", "visibility", "confidence", "queries", "names", "size", "fps")


def write_tracks_npz(
    path: str | Path,
    tracks: Tracks,
    queries: QueryPoints,
    video_size: Size,
    fps: float,
    *,
    times: np.ndarray | None = None,
    start_frame: int = 0,
    pixel_aspect: float = 1.0,
) -> None:
    """Write tracks with everything needed to use them without the video.

    The arrays are ``tracks`` (N, T, 2) float32, ``visibility`` (N, T) bool, ``confidence``
    (N, T) float32, ``queries`` (N, 3) float32 as frame, x, y, ``names`` (N,), ``size``
    (H, W), ``fps``, ``times`` (T,) float64, ``start_frame`` and ``pixel_aspect``. The same tracks
    make the same file, byte for byte.

    Args:
        path: The npz file.
        tracks: Positions in original pixels.
        queries: The N query points, in the same order.
        video_size: (H, W) in original pixels.
        fps: Frames a second.
        times: (T,) seconds since the first frame, as in ``Video``; None: one frame each 1 / fps.
        start_frame: The number that the user's files give to the first frame. The frames in
            ``queries`` count from 0 all the same, since they are indices of the arrays.
        pixel_aspect: Width of a pixel over its height.

    Raises:
        OutputError: If the file cannot be written.
    """
    frame_xy = torch.cat([queries.frame[:, None].to(torch.float32), queries.xy.to(torch.float32)], dim=1)
    arrays: dict[str, Any] = {
        "tracks": tracks.xy.cpu().numpy().astype(np.float32),
        "visibility": tracks.visibility.cpu().numpy().astype(bool),
        "confidence": tracks.confidence.cpu().numpy().astype(np.float32),
        "queries": frame_xy.cpu().numpy(),
        "names": np.array(queries.names, dtype=np.str_),
        "size": np.array(video_size, dtype=np.int64),
        "fps": np.array(fps, dtype=np.float64),
        "times": frame_times(times, tracks.xy.shape[1], fps),
        "start_frame": np.array(start_frame, dtype=np.int64),
        "pixel_aspect": np.array(pixel_aspect, dtype=np.float64),
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


@dataclass(frozen=True)
class TracksFile:
    """What a tracks.npz holds."""

    tracks: Tracks  # N points in T frames
    queries: QueryPoints  # N; their frames count from 0
    size: Size  # (H, W) of the video in pixels
    fps: float
    start_frame: int  # the number that the user gave to the first frame


def read_tracks_npz(path: str | Path) -> tuple[Tracks, QueryPoints, Size, float]:
    """Read a file of ``write_tracks_npz``: results, or true tracks to compare with.

    Args:
        path: The npz file. Pickled objects in it are refused.

    Returns:
        Tracks and query points in original pixels, (H, W) of their video, and its fps.

    Raises:
        QueryError: If the file is missing or damaged, if it lacks an array, or one has the
            wrong shape or type, or values that cannot be.
    """
    found = read_tracks_file(path)
    return found.tracks, found.queries, found.size, found.fps


def read_tracks_file(path: str | Path) -> TracksFile:
    """Read all of what ``read_tracks_npz`` reads, and the number of the first frame.

    Raises:
        QueryError: As ``read_tracks_npz``.
    """
    path = Path(path)
    with open_input(path, MOST_FILE_BYTES, QueryError, "a tracks.npz") as file:
        try:
            arrays = ArrayFile(file, MOST_ARRAY_BYTES)
            _check_headers(arrays)
            return _checked(arrays)
        except QueryError as error:
            raise QueryError(f"{path}: {error}") from None


def _check_headers(arrays: ArrayFile) -> None:
    """Raise QueryError if an array is missing or has the wrong shape or type, before any is read."""
    missing = [name for name in _NEEDED if name not in arrays.names]
    if missing:
        raise QueryError(f"lacks the array {', '.join(missing)}; a tracks.npz holds {', '.join(_NEEDED)}")
    headers = {name: arrays.header(name) for name in _NEEDED}
    tracks = headers["tracks"].shape
    if len(tracks) != 3 or tracks[2] != 2:
        raise QueryError(f"tracks must be (points, frames, 2), got {tracks}")
    count, frames = tracks[:2]
    check_count(count)
    shapes = {
        "visibility": (count, frames),
        "confidence": (count, frames),
        "queries": (count, 3),
        "names": (count,),
        "size": (2,),
        "fps": (),
    }
    for name, shape in shapes.items():
        if headers[name].shape != shape:
            raise QueryError(f"{name} must be {shape} to go with tracks {tracks}, got {headers[name].shape}")
    if headers["visibility"].dtype != bool:
        kind = headers["visibility"].dtype
        raise QueryError(f"visibility must be bool, got {kind}; write True where seen")
    for name in ("tracks", "confidence", "queries", "size", "fps"):
        if headers[name].dtype.kind not in "fiu":
            raise QueryError(f"{name} must hold numbers, got {headers[name].dtype}")


def _checked(arrays: ArrayFile) -> TracksFile:
    """Read the arrays as our types; raise QueryError for values that cannot be."""
    size, fps = size_of(arrays.read("size")), float(arrays.read("fps"))
    if not 0 < fps < math.inf:
        raise QueryError(f"fps must be a number above 0, got {fps}")
    tracks, visibility = arrays.read("tracks").astype(np.float32), arrays.read("visibility")
    confidence = arrays.read("confidence").astype(np.float32)
    if not np.isfinite(tracks[visibility]).all():
        raise QueryError(
            "tracks holds positions that are not finite where visibility is true; mark them hidden"
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise QueryError("confidence must be in 0..1; write 1 for true tracks")
    points, frames = arrays.read("queries").astype(np.float64), tracks.shape[1]
    frame = points[:, 0]
    outside = (frame != np.floor(frame)) | ~((frame >= 0) & (frame < frames))
    if outside.any():
        first = int(outside.argmax())
        raise QueryError(
            f"query point {first} is in frame {frame[first]:g}, "
            f"but tracks has {frames} frames (0-{frames - 1}); count frames from 0"
        )
    if not np.isfinite(points).all():
        first = int((~np.isfinite(points)).any(axis=1).argmax())
        raise QueryError(f"query point {first}: x and y must be finite numbers")
    table = QueryTable(frame, points[:, 1:], names_of(arrays, len(points)))
    queries = QueryPoints(
        torch.from_numpy(frame.astype(np.int64)),
        torch.from_numpy(table.xy.astype(np.float32)),
        complete_names(table),
    )
    found = Tracks(*(torch.from_numpy(array) for array in (tracks, visibility, confidence)))
    return TracksFile(found, queries, size, fps, start_frame_of(arrays))


def write_tracks_csv(
    path: str | Path,
    tracks: Tracks,
    queries: QueryPoints,
    fps: float,
    *,
    times: np.ndarray | None = None,
    start_frame: int = 0,
) -> None:
    """Write tracks as a table: name, point, frame, x, y, visible, confidence, time.

    One row per point and frame, points in the order of ``queries``. x and y are original
    pixels with 3 decimals, visible is 1 or 0, confidence has 3 decimals, time is in seconds since
    the first frame with 6. A name that a spreadsheet would run as a formula gets an apostrophe
    before it.

    Args:
        path: The CSV file, UTF-8.
        tracks: N points in T frames.
        queries: The N query points, for their names.
        fps: Frames a second.
        times: (T,) seconds since the first frame, as in ``Video``; None: one frame each 1 / fps.
        start_frame: The number of the first frame.

    Raises:
        OutputError: If the file cannot be written.
    """
    xy, visible, confidence = (
        values.tolist() for values in (tracks.xy, tracks.visibility.int(), tracks.confidence)
    )
    seconds = [f"{time:.6f}" for time in frame_times(times, tracks.xy.shape[1], fps).tolist()]
    with (
        atomic_write(path) as temporary,
        # names given by a program may hold half of a surrogate pair
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", "point", "frame", "x", "y", "visible", "confidence", "time"])
        for point, name in enumerate(map(spreadsheet_text, queries.names)):
            for frame, (x, y) in enumerate(xy[point]):
                where = [name, point, frame + start_frame, f"{x:.3f}", f"{y:.3f}"]
                table.writerow(
                    [*where, visible[point][frame], f"{confidence[point][frame]:.3f}", seconds[frame]]
                )
