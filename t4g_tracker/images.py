"""Reading one image file."""

from __future__ import annotations

import stat
from pathlib import Path

from t4g_tracker.errors import TrackerError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_special_file(path: Path, error: type[TrackerError], remedy: str) -> None:
    """Raise ``error`` if ``path`` is there, but is no plain file: a pipe or a device may never end."""
    try:
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except FileNotFoundError:
        kind = "a link to a file that is not there" if path.is_symlink() else None
    except OSError as reason:  # a link to itself
        kind = f"not to be found ({reason.strerror})"
    if kind is not None:
        raise error(f"{path}: is {kind}, not an image file; {remedy}")
