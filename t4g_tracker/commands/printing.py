"""Printing to standard output, which may be a terminal of few letters, a pipe that closes, or a full disk."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from t4g_tracker.errors import OutputError


def say(text: str, end: str = "\n") -> None:
    """Print a text at once.

    Whoever reads the output may stop, as ``head -1`` does: what is printed later is dropped, and the
    work goes on.

    Raises:
        OutputError: If the output is a file that cannot be written.
    """
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _drop_output()  # what is still to be flushed would fail again as Python ends
        raise OutputError(
            f"standard output: cannot be written ({error.strerror}); free some space, or print elsewhere"
        ) from error


def flush_output() -> None:
    """Print what others have left in the buffer, such as the text of ``--help``, or drop it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _drop_output()


def _drop_output() -> None:
    """Point standard output to the null device."""
    with contextlib.suppress(OSError, ValueError):  # it may have no file behind it
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def print_any_text() -> None:
    r"""Let letters that the terminal does not have be printed as \x.., as Python's errors are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
