"""Unfinished files: each lies in a folder of its own that its writer keeps locked.

The system drops the lock when the writer ends, however it ends. So what a killed run has left is known
for sure, and the next run removes it. The folder's name is random: process numbers repeat between
containers and machines that share a disk, and the threads of a process have the same one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from t4g_tracker.storage.locks import ATTEMPTS, close, open_folder, try_lock

NAME = re.compile(r"\.t4g-([0-9a-f]{8})-[0-9a-f]{16}\.partial")  # of the machine, then random
EARLIER_NAMES = re.compile(r"\.(.+\.)?\d+\.partial(\.\w+)?|\.writable\.\d+")  # without locks
REPLACED = ".replaced"  # holds what new parts of a folder replace, until all of them are in place
OLD_S = 24 * 3600.0  # what nobody has written to for so long is left over, whoever made it


@contextmanager
def unfinished_folder(folder: Path) -> Iterator[Path]:
    """Make a locked folder inside ``folder``, for files in the making; it is removed at the end.

    It stays if ``move_into_place`` could neither end nor go back: ``remove_leftovers`` finishes that.

    Raises:
        OSError: If it cannot be made.
    """
    path = folder / f".t4g-{_machine()}-{secrets.token_hex(8)}.partial"
    descriptor = -1
    try:  # from here on, so that an interrupt at any moment leaves nothing
        descriptor = _make_locked(path)
        yield path
    finally:
        if not (path / REPLACED).exists():
            shutil.rmtree(path, ignore_errors=True)
        close(descriptor)


def move_into_place(unfinished: Path, folder: Path) -> None:
    """Move the parts of an unfinished folder into ``folder``: all of them, or after an error none."""
    replaced, names = unfinished / REPLACED, sorted(part.name for part in unfinished.iterdir())
    try:
        _move_parts(unfinished, folder)
    except BaseException:
        for name in reversed(names):  # by what lies where: an interrupt can come between any two moves
            if not (unfinished / name).exists():
                (folder / name).replace(unfinished / name)
            if (replaced / name).exists():
                (replaced / name).replace(folder / name)
        shutil.rmtree(replaced, ignore_errors=True)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _move_parts(unfinished: Path, folder: Path) -> None:
    """Move parts into ``folder``; what they replace goes into REPLACED. Called again, it moves the rest."""
    replaced = unfinished / REPLACED
    replaced.mkdir(exist_ok=True)
    for part in sorted(set(unfinished.iterdir()) - {replaced}):
        place = folder / part.name
        if place.exists():
            _keep(place, replaced / part.name, linked=place.is_file() and part.is_file())
        part.replace(place)


def _keep(place: Path, kept: Path, linked: bool) -> None:
    """Keep what is to be replaced: by a second name, so that it keeps its first, or else by moving it."""
    if linked:
        with suppress(OSError):  # some disks have no links
            os.link(place, kept)
            return
    place.replace(kept)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs have left unfinished in a folder and the folders in it.

    What is being written stays. A leftover of this machine is one that nobody locks. Locks may not reach
    other machines, and earlier versions had none: what comes from there must be a day old as well.
    Anything that cannot be removed stays, without an error.
    """
    for below in _remove_leftovers_from(folder):
        _remove_leftovers_from(below)


def _remove_leftovers_from(folder: Path) -> list[Path]:
    """Remove leftovers from one folder; returns the folders in it."""
    below = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name) or EARLIER_NAMES.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_leftover(folder / entry.name)
            elif entry.is_dir(follow_symlinks=False):
                below.append(folder / entry.name)
    return below


def _make_locked(path: Path) -> int:
    """Make a folder and lock it; returns the descriptor that holds the lock."""
    for _ in range(ATTEMPTS):  # more than one only if another process removes leftovers at this moment
        path.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            descriptor = open_folder(path)
            if try_lock(descriptor) is not False and path.exists():
                return descriptor
            close(descriptor)
        time.sleep(0.01)
    raise OSError(f"another process removes what this one makes in {path.parent}")


def _remove_leftover(path: Path) -> None:
    name = NAME.fullmatch(path.name)
    if name is None:
        if _is_old(path) and not (path / "replaced").exists():  # which may hold the only copy of something
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    descriptor = open_folder(path)
    try:
        unlocked = try_lock(descriptor)
        if unlocked is False:  # its writer lives
            return
        if (unlocked and name[1] == _machine()) or _is_old(path):
            if (path / REPLACED).exists():  # killed between two moves: the new parts are whole
                _move_parts(path, path.parent)
            shutil.rmtree(path)
    finally:
        close(descriptor)


def _is_old(path: Path) -> bool:
    """Whether nobody has written to a file, or to a folder and the files in it, for a day."""
    parts = [path, *path.rglob("*")] if path.is_dir() else [path]
    return time.time() - max(part.lstat().st_mtime for part in parts) > OLD_S


@lru_cache(maxsize=1)
def _machine() -> str:
    """Identify the running system, whose processes see each other's locks, also from their containers."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        identity = platform.node()
    return hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
