"""Opening files that users give: plain files of bounded size, so that nothing hangs or fills the memory."""

from __future__ import annotations

import codecs
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from t4g_tracker.errors import TrackerError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # xlsx and ods are zips; xls is an OLE file


def refuse_special(path: Path, error: type[TrackerError], remedy: str) -> None:
    """Raise ``error`` if ``path`` is there, but is no plain file.

    A pipe or a device may never end, and what comes from it cannot be read twice.
    """
    try:
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except FileNotFoundError:
        kind = "a link to a file that is not there" if path.is_symlink() else None
    except OSError as reason:  # a link to itself
        kind = f"not to be found ({reason.strerror})"
    if kind is not None:
        raise error(f"{path}: is {kind}; {remedy}")


@contextmanager
def open_input(path: Path, most_bytes: int, error: type[TrackerError], wanted: str) -> Iterator[BinaryIO]:
    """Open a plain file to read.

    Args:
        path: The file, or a link to it.
        most_bytes: A larger file is refused.
        error: What to raise.
        wanted: What to give instead, for messages, such as "a file of query points".

    Yields:
        The open file.

    Raises:
        TrackerError: As ``error``, if the file is missing, empty, too large, no plain file or not readable.
    """
    try:
        refuse_special(path, error, f"give {wanted}")
        size = path.stat().st_size
        if size == 0:
            raise error(f"{path}: is empty (0 bytes); give {wanted}")
        if size > most_bytes:
            raise error(
                f"{path}: has {size / 1e6:.0f} MB, more than the {most_bytes / 1e6:.0f} MB that "
                f"are read; give {wanted}"
            )
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as problem:
        raise error(f"{path}: no such file; check the path") from problem
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); give {wanted}") from problem


def decoded(data: bytes, error: type[TrackerError]) -> str:
    """Decode text: UTF-8, or UTF-16 and UTF-32 with the byte order mark that Excel and Windows write.

    Raises:
        TrackerError: As ``error`` and without a file's name, if the bytes are no such text.
    """
    if data.startswith(_WORKBOOKS):
        raise error("is a workbook or an archive, no text; export it as CSV (UTF-8)")
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        encoding = "utf-32"
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as problem:
        name = encoding.removesuffix("-sig").upper()
        raise error(f"is not {name} text (byte {problem.start}); save it as UTF-8") from problem
    if "\0" in text:
        raise error("holds NUL characters, as UTF-16 without its mark does; save it as UTF-8")
    return text


def decoded_ansi(data: bytes) -> str | None:
    """Decode text as Excel on Windows saves "CSV" in many countries; None if it can be no such text."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return text if all(mark.isprintable() or mark in "\t\r\n\xa0" for mark in set(text)) else None
