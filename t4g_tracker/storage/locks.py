"""Locks that the system drops when their holder ends, even by kill -9 (flock)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]

ATTEMPTS = 10


def open_folder(folder: Path) -> int:
    """Open a folder, to lock it; -1 where the system has no locks.

    Raises:
        OSError: If it is missing, or no folder.
    """
    return -1 if fcntl is None else os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def close(descriptor: int) -> None:
    """Close what ``open_folder`` has opened, and drop its lock."""
    if descriptor >= 0:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder; False if another holds its lock, None if there are no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some network disks say the latter
        return False
    except OSError:
        return None
    return True


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold a lock file; it is made for this and removed at the end. Does nothing where there are no locks.

    Raises:
        BlockingIOError: If another process or thread holds it.
        OSError: If it cannot be made.
    """
    if fcntl is None:
        yield
        return
    descriptor = _lock_named(path)
    try:
        yield
    finally:
        if _has_name(descriptor, path):
            path.unlink()  # before the lock is dropped: whoever has opened it meanwhile sees it has no name
        os.close(descriptor)


def _lock_named(path: Path) -> int:
    """Open and lock a file that still has its name once it is locked."""
    for _ in range(ATTEMPTS):  # more than one only if another run ends at this moment
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        locked = try_lock(descriptor)
        if locked is not False and _has_name(descriptor, path):
            return descriptor
        os.close(descriptor)
        if locked is False:
            break
    raise BlockingIOError(errno.EWOULDBLOCK, "held by another run", str(path))


def _has_name(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
