"""Writing files so that each is either whole or missing."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from t4g_tracker.errors import OutputError
from t4g_tracker.storage.locks import lock_file
from t4g_tracker.storage.unfinished import move_into_place, remove_leftovers, unfinished_folder

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

OUTPUT_FOLDER = "output folder"  # in error messages
LOCK = ".lock"  # a file in the output folder during a run; what counts is who locks it


def default_cache_folder() -> Path:
    """Return ``$T4G_CACHE``, or ``t4g-tracker`` in the user's cache folder; empty variables count as unset.

    Raises:
        OutputError: If there is neither, as for a user without a home.
    """
    if os.environ.get("T4G_CACHE"):
        return Path(os.environ["T4G_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "t4g-tracker"
    try:
        return Path.home() / ".cache" / "t4g-tracker"
    except RuntimeError as error:
        raise OutputError(
            "there is no home folder for the cache; name a folder with --cache, or in the variable T4G_CACHE"
        ) from error


def safe_name(text: str, otherwise: str = "results") -> str:
    """Make a name for a file or folder from a text, without characters that it may not have on any system."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", text).strip(" .") or otherwise


@contextmanager
def atomic_write(path: str | Path, place: str = OUTPUT_FOLDER) -> Iterator[Path]:
    """Write a file under a temporary name, and rename it once it is whole.

    A reader of ``path`` sees the old file or the new one, never half of one. If writing
    fails, the old file stays and the temporary one is removed.

    Args:
        path: The file to write; its folder must exist.
        place: Name of what the user can change, for error messages.

    Yields:
        An empty file on the same disk and with the same suffix, to write to or replace.

    Raises:
        OutputError: If it cannot be written: disk full, no permission, no such folder.
    """
    path = Path(path)
    try:
        with unfinished_folder(path.parent) as unfinished:
            temporary = unfinished / f"partial{path.suffix}"
            mode = _make_empty(temporary)
            yield temporary
            temporary.chmod(mode)  # some writers make files that only their owner may read
            _flush_to_disk(temporary)
            temporary.replace(path)
    except OSError as error:
        raise OutputError(_why_not_written(path, error, place)) from error


def write_text(path: str | Path, text: str) -> None:
    r"""Write a text as UTF-8, with its line ends unchanged.

    A file name that is not UTF-8, or half of a surrogate pair in a name, is written as ``\udc..``: in
    JSON that is the very same text.

    Raises:
        OutputError: If it cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def write_json(path: str | Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON.

    Args:
        path: The JSON file.
        record: Converted by ``plain_values``; anything else, such as a path, becomes text.

    Raises:
        OutputError: If it cannot be written.
    """
    plain = plain_values(record)
    write_text(path, json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def file_digest(path: Path) -> str | None:
    """Digest of a file's content; None if it cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()
    except OSError:
        return None


def plain_values(value: Any) -> Any:
    """Convert dataclasses, mappings and tuples, and what is in them, to dicts and lists, for JSON or YAML.

    A number of NumPy or PyTorch becomes Python's, and one that is not finite None, since JSON has no other
    word for it. Anything else stays as it is.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain_values(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_values(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(entry) for entry in value]
    if getattr(value, "shape", None) == ():
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Write a folder's content under a temporary name, and move it into place once all of it is whole.

    Files and folders of the same names are replaced by renaming, so half of a file can never be
    read. Anything else in ``folder`` stays. If writing or moving fails or is interrupted, nothing changes.

    Args:
        folder: The folder to write; created if missing.

    Yields:
        A new folder inside ``folder``, to fill.

    Raises:
        OutputError: If it cannot be written: disk full, no permission.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        with unfinished_folder(folder) as unfinished:
            mode = _make_empty(unfinished / ".mode")
            (unfinished / ".mode").unlink()
            yield unfinished
            for path in unfinished.rglob("*"):
                if path.is_file():
                    path.chmod(mode)
                    _flush_to_disk(path)
            move_into_place(unfinished, folder)
    except OSError as error:
        raise OutputError(_why_not_written(folder, error)) from error


def _make_empty(path: Path) -> int:
    """Create an empty file, and return the permissions that the user's umask gives to new files.

    A process can read its umask only by setting it, for all its threads at once; creating a file
    lets the system apply it.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _flush_to_disk(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with path.open("r+b") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def _why_not_written(path: Path, error: OSError, place: str = OUTPUT_FOLDER) -> str:
    remedy = _REMEDIES.get(error.errno or 0, f"{error.strerror or error}; choose another {{place}}")
    return f"{path}: cannot be written, {remedy.format(place=place)}"


def prepare_output_folder(path: str | Path, needed_mb: float = 100.0, place: str = OUTPUT_FOLDER) -> Path:
    """Create the folder for results and check, before any work, that it can hold them.

    Args:
        path: The folder; those above it are created as well.
        needed_mb: Space that must be free, in units of 10^6 bytes.
        place: Name of what the user can change, for error messages.

    Returns:
        The folder as a ``Path``.

    Raises:
        OutputError: If it cannot be created or written to, or too little space is free.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:  # has no name that could stay
            probe.write(b"probe")
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


@contextmanager
def locked_folder(path: str | Path, place: str = OUTPUT_FOLDER) -> Iterator[Path]:
    """Prepare the folder for results and hold it for one run at a time.

    The system drops the lock when the process ends, however it ends. What killed runs have left
    unfinished in the folder is removed.

    Args:
        path: The folder; those above it are created as well.
        place: Name of what the user can change, for error messages.

    Yields:
        The folder as a ``Path``.

    Raises:
        OutputError: If another run holds it, or as in ``prepare_output_folder``.
    """
    folder = prepare_output_folder(path, place=place)
    with ExitStack() as held:
        try:
            held.enter_context(lock_file(folder / LOCK))
        except BlockingIOError as error:
            raise OutputError(
                f"{folder}: another run is writing to it; wait for it, or choose another {place}"
            ) from error
        except OSError as error:
            raise OutputError(
                f"{folder / LOCK}: cannot be locked ({error.strerror}); remove it, or choose another {place}"
            ) from error
        remove_leftovers(folder)
        yield folder
