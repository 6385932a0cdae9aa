"""Standard output and standard error that cannot fail: closed, without a reader, or on a full disk."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast


class SteadyStream:
    """A text stream that drops what cannot be written, and remembers why.

    So ``| head -1`` does not end a run before its files are written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Write to nowhere from now on, also what Python still holds back and writes at its end."""
        self.error = self.error or error
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def steady_streams() -> Iterator[SteadyStream]:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams that cannot fail; yields the former.

    Lines appear as they are printed, also in a pipe, and characters that the terminal lacks are escaped.
    """
    _occupy_closed_numbers()
    before = sys.stdout, sys.stderr
    streams = [SteadyStream(stream or _nowhere()) for stream in before]
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    try:
        yield streams[0]
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def _nowhere() -> TextIO:
    """Stands for a stream that is closed, as in a program without a console."""
    return Path(os.devnull).open("w", encoding="utf-8")


def _occupy_closed_numbers() -> None:
    """Open what is closed of the three standard streams to nowhere.

    Or the next file to be opened would get its number, and a library's messages would end up in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
