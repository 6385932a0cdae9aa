"""Opening files that users give: plain files of bounded size, so that nothing hangs or fills the memory."""

from __future__ import annotations

import codecs
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from t4g_tracker.errors import TrackerError

_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # xlsx and ods are zips; xls is an OLE file


@contextmanager
def open_input(path: Path, most_bytes: int, error: type[TrackerError], wanted: str) -> Iterator[BinaryIO]:
    """Open a plain file to read.

    A pipe or a device is refused: it may never end, and what comes from it cannot be read twice.

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
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise error(f"{path}: is a folder; give {wanted}")
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{path}: is a pipe or a device; save what comes from it, and give {wanted}")
        if status.st_size == 0:
            raise error(f"{path}: is empty (0 bytes); give {wanted}")
        if status.st_size > most_bytes:
            raise error(
                f"{path}: has {status.st_size / 1e6:.0f} MB, more than the {most_bytes / 1e6:.0f} MB that "
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
