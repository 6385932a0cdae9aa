"""The folder of a run's results: which one, and that it never holds files of two runs that look like one.

A folder belongs to a video and its query points, which are in its record (``run.json``, ``compare.json``).
The record is written first, with ``finished`` false, and again when all else is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from t4g_tracker.errors import Interrupted, OutputError, warn
from t4g_tracker.stage_log import Progress
from t4g_tracker.storage.files import locked_folder, replace_folder, write_json

Writers = dict[str, Callable[[Path], None]]  # by the names of their files
Facts = Mapping[str, Mapping[str, Any]]  # "video" and "points", as in run_record.py


@dataclass(frozen=True)
class Kind:
    """A kind of run, by the files that it may write."""

    record: str  # name of the record
    files: frozenset[str]  # names of all files, the record among them
    suffix: str = ""  # of the clip's name, in the default folder


@contextmanager
def open_result_folder(
    given: Path | None, default: Path, facts: Facts, kind: Kind, inputs: Iterable[Path]
) -> Iterator[Path]:
    """Choose the folder of a run's results, create it, check it before any work, and hold it until the end.

    Results of the same video and points are replaced. By default other results stay: the folder is then
    called ``default``-2, and so on. A folder that the user gives is used, with a warning.

    Args:
        given: The user's choice, or None.
        default: The folder otherwise.
        facts: What the record will say of ``video`` and ``points``.
        kind: The kind of run.
        inputs: Files and folders that the run reads.

    Raises:
        OutputError: If results would replace an input or lie among the frames, if another run is writing
            to the folder, or if it cannot be created or written to.
    """
    folder = given or _free_folder(default, facts, kind)
    for path in inputs:
        if folder.is_dir() and path.is_dir() and folder.samefile(path):
            raise OutputError(
                f"{folder}: results would lie among the files read from it; choose another --out"
            )
        if path.is_file() and any(_is_file(folder / name, path) for name in kind.files):
            raise OutputError(f"{path}: would be replaced by the results; choose another --out, or copy it")
    with locked_folder(folder, place="--out"):
        _warn_of_replaced(folder, facts, kind)
        yield folder


def _is_file(place: Path, path: Path) -> bool:
    return place.exists() and place.samefile(path)


def _free_folder(default: Path, facts: Facts, kind: Kind) -> Path:
    """Find the first folder of this name that has no results, or those of the same video and points."""
    for number in count(1):
        folder = default if number == 1 else default.with_name(f"{default.name}-{number}")
        owner = _owner(folder, kind)
        if owner is None or all(_same_source(owner, facts, what) for what in ("video", "points")):
            break
    if folder != default:
        warn(
            f"{default}: holds results of {_described(_owner(default, kind))}; "
            f"these go to {folder}, or name a folder with --out"
        )
    return folder


def _warn_of_replaced(folder: Path, facts: Facts, kind: Kind) -> None:
    """Warn if a folder has results of another video or of other points."""
    owner = _owner(folder, kind)
    if owner is not None and not all(_same_digest(owner, facts, what) for what in ("video", "points")):
        warn(
            f"{folder}: holds results of {_described(owner)}, which this run replaces; "
            "to keep them, stop and give another --out"
        )


def _owner(folder: Path, kind: Kind) -> Mapping[str, Any] | None:
    """Read the record of a folder's results, empty if it cannot be read; None if there are no results."""
    if not any((folder / name).exists() for name in kind.files):
        return None
    try:
        record = json.loads((folder / kind.record).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, Mapping) else {}


def _entry(record: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    found = record.get(what)
    return found if isinstance(found, Mapping) else {}


def _same_digest(owner: Mapping[str, Any], facts: Facts, what: str) -> bool:
    return _entry(owner, what).get("digest") == facts[what]["digest"]


def _same_source(owner: Mapping[str, Any], facts: Facts, what: str) -> bool:
    """Whether both are of one video or query file, perhaps edited since, or of equal digest."""
    return _same_digest(owner, facts, what) or _entry(owner, what).get("source") == facts[what]["source"]


def _described(owner: Mapping[str, Any] | None) -> str:
    """Say in a few words whose results a folder holds."""
    video, points = (_entry(owner or {}, what) for what in ("video", "points"))
    if not video or not points:
        return "a run that left no record of its video"
    return f"{video.get('source')} with {points.get('count')} points ({points.get('source')})"


def write_results(
    folder: Path,
    kind: Kind,
    record: Mapping[str, Any],
    tracks: Writers,
    pictures: Writers,
    progress: Progress,
) -> list[str]:
    """Write a run's files so that whatever interrupts it, the folder says what it holds.

    Tracks appear together with a record that says ``finished`` false, and the kind's other files, of
    earlier runs, are removed; then come the pictures. ``finish_record`` is to be called at the end. Files
    that the program does not know stay.

    Args:
        folder: The output folder; must exist.
        kind: The kind of run.
        record: What is known of the run so far.
        tracks: Writers of the files that matter most.
        pictures: Writers of the files that may take long.
        progress: Called with (files written, files in all).

    Returns:
        Names of all files, sorted, the record among them.

    Raises:
        OutputError: If a file cannot be written.
        Interrupted: On Ctrl-C; it says what is there and what is not.
    """
    files = sorted({kind.record, *tracks, *pictures})
    written: list[str] = []
    with _interrupted_saying(folder, written, [*tracks, *pictures]):
        with replace_folder(folder) as whole:
            _write_record(whole, kind, files, record, finished=False)
            for name, write in tracks.items():
                write(whole / name)
        written += tracks
        _remove(folder, kind.files - {kind.record, *tracks})
        for name, write in pictures.items():
            progress(len(written), len(tracks) + len(pictures))
            write(folder / name)
            written.append(name)
        progress(len(written), len(tracks) + len(pictures))
    return files


def finish_record(folder: Path, kind: Kind, files: Sequence[str], record: Mapping[str, Any]) -> None:
    """Write the record of a run whose files are all there."""
    _write_record(folder, kind, files, record, finished=True)


def _write_record(
    folder: Path, kind: Kind, files: Sequence[str], record: Mapping[str, Any], finished: bool
) -> None:
    write_json(folder / kind.record, {"finished": finished, "files": files, **record})


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files of an earlier run."""
    for name in sorted(names):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder / name}: is of an earlier run and cannot be removed ({error.strerror}); "
                "remove it, or choose another --out"
            ) from error


@contextmanager
def _interrupted_saying(folder: Path, written: list[str], files: Iterable[str]) -> Iterator[None]:
    """Add to Ctrl-C which files are there."""
    try:
        yield
    except KeyboardInterrupt:
        missing = ", ".join(name for name in files if name not in written)
        there = f"has {', '.join(written)}, but not {missing}" if written else "has none of the new results"
        raise Interrupted(f"stopped while writing: {folder} {there}", "writes them all") from None
