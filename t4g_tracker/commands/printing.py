"""Printing that cannot fail: to a closed stream, a terminal of few letters, a closed pipe, a full disk."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast


def say(text: str, end: str = "\n") -> None:
    """Print a text at once, so that it appears in order with messages and bars."""
    print(text, end=end, flush=True)


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
        with contextlib.suppress(OSError, ValueError):  # it may have no file behind it
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def steady_streams() -> Iterator[SteadyStream]:
    r"""Replace ``sys.stdout`` and ``sys.stderr`` by streams that cannot fail; yields the former.

    Letters that the terminal does not have are printed as \x.., as Python's errors are.
    """
    _occupy_closed_numbers()
    before = sys.stdout, sys.stderr
    streams = [SteadyStream(stream or _nowhere()) for stream in before]
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    try:
        yield streams[0]
    finally:
        for steady in streams:
            steady.flush()
        sys.stdout, sys.stderr = before


def _nowhere() -> TextIO:
    """Stands for a stream that is closed, as in a program without a console."""
    return Path(os.devnull).open("w", encoding="utf-8", errors="replace")


def _occupy_closed_numbers() -> None:
    """Open what is closed of the three standard streams to nowhere.

    Or the next file to be opened would get its number, and a library's messages would end up in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
