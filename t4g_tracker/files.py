"""Writing results so that a file is either whole or not there, and reading tracks back."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.errors import DAMAGED_ARRAYS, OutputError, QueryError

ARRAYS = ("tracks", "visibility", "confidence", "queries", "names", "size", "fps")

_MASK = os.umask(0o022)  # it can be read only by setting it
os.umask(_MASK)
FILE_MODE = 0o666 & ~_MASK  # of every file written here, as of any new file

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another {place}",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another {place}",
    errno.EACCES: "permission denied; choose another {place}, one you may write to",
    errno.EPERM: "permission denied; choose another {place}, one you may write to",
    errno.EROFS: "the disk is read-only; choose another {place}",
    errno.ENOENT: "its folder does not exist; create it first",
    errno.EISDIR: "a folder of that name is in the way; move it or choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


OUTPUT_FOLDER = "output folder"  # what an error advises to choose another one of


def default_cache_folder() -> Path:
    """``$T4G_CACHE``, or ``t4g-tracker`` in the user's cache folder."""
    if "T4G_CACHE" in os.environ:
        return Path(os.environ["T4G_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "t4g-tracker"


@contextmanager
def atomic_write(path: str | Path, place: str = OUTPUT_FOLDER) -> Iterator[Path]:
    """Write a file under a passing name, and give it its own name only when it is whole.

    Whoever reads ``path`` sees the old file or the new one, never half of one; when
    writing fails the old file stays and the passing one is removed.

    Args:
        path: The file to write; its folder must exist.
        place: What the user would choose another one of, for the error message.

    Yields:
        A path in the same folder and with the same suffix, to create and write to.

    Raises:
        OutputError: If the system refuses: disk full, no permission, no such folder.
    """
    path = Path(path)
    passing = path.with_name(f".{path.stem[:100]}.{os.getpid()}.partial{path.suffix}")
    try:
        yield passing
        _flush_to_disk(passing)
        passing.chmod(FILE_MODE)  # some writers make files that their owner alone may read
        passing.replace(path)
    except OSError as error:
        raise OutputError(_why_not_written(path, error, place)) from error
    finally:
        with suppress(OSError):
            passing.unlink()


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Write a folder under a passing name, and move what is in it to its own place when all of it is whole.

    Files and folders of the same names are replaced, by renaming, so there is no time in which half of
    a file could be read; what else ``folder`` holds stays. When writing fails nothing changes.

    Args:
        folder: The folder to write; made if need be.

    Yields:
        A new folder beside the things to replace, to fill.

    Raises:
        OutputError: If the system refuses: disk full, no permission.
    """
    passing = folder / f".{os.getpid()}.partial"
    try:
        passing.mkdir(parents=True)
        yield passing
        for path in passing.rglob("*"):
            if path.is_file():
                path.chmod(FILE_MODE)
                _flush_to_disk(path)
        replaced = passing / "replaced"
        replaced.mkdir()
        for part in sorted(set(passing.iterdir()) - {replaced}):
            if (folder / part.name).exists():
                (folder / part.name).rename(replaced / part.name)
            part.rename(folder / part.name)
    except OSError as error:
        raise OutputError(_why_not_written(folder, error)) from error
    finally:
        shutil.rmtree(passing, ignore_errors=True)


def save_torch(path: Path, payload: Any, place: str) -> None:
    """Write what ``torch.load`` reads, whole or not at all.

    Args:
        path: The file; its folder must exist.
        payload: Plain containers and tensors.
        place: What the user would choose another one of, for the error message.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with atomic_write(path, place) as passing:
            torch.save(payload, passing)
    except RuntimeError as error:  # how torch's writer says that the disk took no more
        raise OutputError(
            f"{path}: cannot be written, the disk may be full; free some space or choose another {place}"
        ) from error


def _flush_to_disk(path: Path) -> None:
    """Wait until the file's bytes are on the disk, not only promised to it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _why_not_written(path: Path, error: OSError, place: str = OUTPUT_FOLDER) -> str:
    remedy = _REMEDIES.get(error.errno or 0, f"{error.strerror or error}; choose another {{place}}")
    return f"{path}: cannot be written, {remedy.format(place=place)}"


def prepare_output_folder(path: str | Path, needed_mb: float = 100.0, place: str = OUTPUT_FOLDER) -> Path:
    """Create the folder for results and make sure, before any work, that it can take them.

    Args:
        path: The folder; those above it are created as well.
        needed_mb: Space that must be free, in units of 10^6 bytes.
        place: What the user would choose another one of, for the error message.

    Returns:
        The folder as a ``Path``.

    Raises:
        OutputError: If it cannot be created or written to, or too little space is free.
    """
    folder = Path(path)
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
        free_mb = shutil.disk_usage(folder).free / 1e6
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"{folder}: a file is in the way of this folder; choose another {place}") from error
    except OSError as error:
        raise OutputError(_why_not_written(folder, error, place)) from error
    if free_mb < needed_mb:
        raise OutputError(
            f"{folder}: only {free_mb:.0f} MB are free and {needed_mb:.0f} MB may be needed; "
            f"free some space or choose another {place}"
        )
    return folder


def write_tracks_npz(
    path: str | Path, tracks: Tracks, queries: QueryPoints, video_size: Size, fps: float
) -> None:
    """Write tracks with all that is needed to read them without the video.

    The arrays are ``tracks`` (N, T, 2) float32, ``visibility`` (N, T) bool, ``confidence``
    (N, T) float32, ``queries`` (N, 3) float32 as frame, x, y, ``names`` (N,), ``size``
    (H, W) and ``fps``. The same tracks make the same file, byte for byte.

    Args:
        path: The npz file.
        tracks: Positions in original pixels.
        queries: The N query points, in the same order.
        video_size: (H, W) in original pixels.
        fps: Frames a second.

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
    }
    with atomic_write(path) as passing, passing.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_tracks_npz(path: str | Path) -> tuple[Tracks, QueryPoints, Size, float]:
    """Read a file of ``write_tracks_npz``: results, or the true tracks to compare with.

    Args:
        path: The npz file. Pickled objects in it are refused.

    Returns:
        Tracks and query points in original pixels, (H, W) of their video, and its fps.

    Raises:
        QueryError: If the file is missing or damaged, if it lacks an array, or if one has
            another shape or type than the format says.
    """
    arrays = _load_arrays(Path(path))
    try:
        return _checked(arrays)
    except QueryError as error:
        raise QueryError(f"{path}: {error}") from None


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ARRAYS if name in stored}
    except FileNotFoundError as error:
        raise QueryError(f"{path}: no such file; give a tracks.npz") from error
    except IsADirectoryError as error:
        raise QueryError(f"{path}: is a folder; give the tracks.npz in it") from error
    except DAMAGED_ARRAYS as error:
        raise QueryError(f"{path}: is not a readable npz of plain arrays; write it anew") from error
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise QueryError(
            f"{path}: lacks the array {', '.join(missing)}; a tracks.npz holds {', '.join(ARRAYS)}"
        )
    return arrays


def _checked(arrays: Mapping[str, np.ndarray]) -> tuple[Tracks, QueryPoints, Size, float]:
    """The arrays as our types, or what is wrong with them."""
    tracks = arrays["tracks"]
    if tracks.ndim != 3 or tracks.shape[2] != 2:
        raise QueryError(f"tracks must be (points, frames, 2), got {tracks.shape}")
    count, frames = tracks.shape[:2]
    shapes = {
        "visibility": (count, frames),
        "confidence": (count, frames),
        "queries": (count, 3),
        "names": (count,),
        "size": (2,),
        "fps": (),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise QueryError(
                f"{name} must be {shape} to go with tracks {tracks.shape}, got {arrays[name].shape}"
            )
    if arrays["visibility"].dtype != bool:
        raise QueryError(f"visibility must be bool, got {arrays['visibility'].dtype}; write True where seen")
    for name in ("tracks", "confidence", "queries", "size", "fps"):
        if arrays[name].dtype.kind not in "fiu":
            raise QueryError(f"{name} must hold numbers, got {arrays[name].dtype}")
    if not np.isfinite(tracks[arrays["visibility"]]).all():
        raise QueryError(
            "tracks holds positions that are not finite where visibility is true; mark them hidden"
        )
    frame = arrays["queries"][:, 0]
    outside = (frame != np.floor(frame)) | (frame < 0) | (frame >= frames)
    if outside.any():
        first = int(outside.argmax())
        raise QueryError(
            f"query point {first} asks for frame {frame[first]:g}, "
            f"but tracks has {frames} frames (0-{frames - 1})"
        )
    found = Tracks(*(torch.from_numpy(arrays[name].astype(kind)) for name, kind in _TRACK_TYPES))
    queries = QueryPoints(
        torch.from_numpy(frame.astype(np.int64)),
        torch.from_numpy(arrays["queries"][:, 1:].astype(np.float32)),
        tuple(str(name) for name in arrays["names"]),
    )
    height, width = (int(side) for side in arrays["size"])
    return found, queries, (height, width), float(arrays["fps"])


_TRACK_TYPES = (("tracks", np.float32), ("visibility", np.bool_), ("confidence", np.float32))


def write_tracks_csv(path: str | Path, tracks: Tracks, queries: QueryPoints) -> None:
    """Write tracks as a table: name, point, frame, x, y, visible, confidence.

    One row per point and frame, points in the order of ``queries``. x and y are original
    pixels with 3 decimals, visible is 1 or 0, confidence has 3 decimals.

    Args:
        path: The CSV file, UTF-8.
        tracks: N points in T frames.
        queries: Gives the names.

    Raises:
        OutputError: If the file cannot be written.
    """
    xy, visible, confidence = (
        values.tolist() for values in (tracks.xy, tracks.visibility.int(), tracks.confidence)
    )
    with atomic_write(path) as passing, passing.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", "point", "frame", "x", "y", "visible", "confidence"])
        for point, name in enumerate(queries.names):
            for frame, (x, y) in enumerate(xy[point]):
                seen, sure = visible[point][frame], confidence[point][frame]
                table.writerow([name, point, frame, f"{x:.3f}", f"{y:.3f}", seen, f"{sure:.3f}"])


def write_run_json(path: str | Path, run: Mapping[str, Any]) -> None:
    """Write what a run was and how it went as JSON.

    Args:
        path: The JSON file.
        run: Nested mappings, lists, text and numbers. A number that is not finite becomes
            null, which JSON can say; anything else, as a path, becomes its text.

    Raises:
        OutputError: If the file cannot be written.
    """
    text = json.dumps(_plain(run), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as passing:
        passing.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """``value`` in the types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
