"""Locks that the system drops when their holder ends, even by kill -9 (flock)."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ATTEMPTS = 10


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder; False if another holds its lock, None if this disk has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some network disks say the latter
        return False
    except OSError:
        return None
    return True


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold a lock file; it is made for this and removed at the end.

    Raises:
        BlockingIOError: If another process or thread holds it.
        OSError: If it cannot be made.
    """
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
