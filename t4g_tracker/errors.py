"""Errors that a user can act on: one line that names the file, the item and the remedy."""

from __future__ import annotations

import difflib
import re
import reprlib
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class TrackerError(Exception):
    """Something outside the program is wrong; the message names it and the remedy.

    The command line prints the message alone and exits with code 2.
    """


class VideoError(TrackerError):
    """A video file or frame folder cannot be used."""


class QueryError(TrackerError):
    """A query file, a grid request or a mask cannot be used."""


class ConfigError(TrackerError):
    """A setting is unknown, mistyped or out of range."""


class WeightsError(TrackerError):
    """Published or bundled weights are missing or do not fit."""


class CacheError(TrackerError):
    """A checkpoint or cache entry does not belong to this run or is cut short."""


class OutputError(TrackerError):
    """A result cannot be written: folder not writable, disk full."""


class DatasetError(TrackerError):
    """A data set folder or annotation file cannot be used."""


class StudyError(TrackerError):
    """Generated videos, or answers about them, cannot be used."""


class NothingToFollowError(TrackerError):
    """No point of a video survives the checks of its flow."""


class TrainingError(TrackerError):
    """A training cannot continue."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, where more can be said than that.

    Args:
        what: What was interrupted.
        then: What the same command does next; follows "the same command".
    """

    def __init__(self, what: str, then: str = "resumes") -> None:
        super().__init__(what)
        self.then = then


class TrackerWarning(UserWarning):
    """Something outside the program is doubtful, and the program goes on; one line says what and what to do.

    The command line prints it as ``warning: ...`` on standard error.
    """


_OURS = ("t4g_tracker", "adaptation", "contextlib")  # a warning is for the code that calls these
_noted: ContextVar[list[str] | None] = ContextVar("noted", default=None)


def warn(message: str) -> None:
    """Warn of doubtful input that is used all the same: one line that names it and the remedy."""
    noted = _noted.get()
    if noted is not None and message not in noted:
        noted.append(message)
    warnings.warn(message, TrackerWarning, stacklevel=_levels_to_caller())


def _levels_to_caller() -> int:
    """How many calls above ``warn`` the code outside of this package is, which the warning is for."""
    frame, levels = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _OURS:
        frame, levels = frame.f_back, levels + 1
    return levels


@contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """Note what ``warn`` says meanwhile, for the record of a run; it is shown all the same.

    Only in this thread: another one, which inherits no ``ContextVar``, notes nothing here.

    Yields:
        The messages so far, each once; ``warnings_so_far`` returns them too.
    """
    token = _noted.set([])
    try:
        yield warnings_so_far()
    finally:
        _noted.reset(token)


def warnings_so_far() -> list[str]:
    """The messages of the innermost ``noted_warnings``; empty outside of any."""
    noted = _noted.get()
    return [] if noted is None else noted


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the lines of ``warn`` instead of showing them, for another process or a later moment to show.

    Not for several threads at once, since a process has one place where warnings go.
    """
    lines: list[str] = []
    with warnings.catch_warnings():
        before = warnings.showwarning

        def collect(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, TrackerWarning):
                lines.append(" ".join(str(message).split()))
            else:
                before(message, category, *where, **more)

        warnings.simplefilter("always", TrackerWarning)
        warnings.showwarning = collect
        yield lines


_NO_MEMORY = re.compile("(can't|cannot) allocate memory|not enough memory", re.IGNORECASE)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like another; empty if none is like it."""
    close = difflib.get_close_matches(name[:200], list(known), n=1)  # slow on long texts
    return close[0] if close else ""


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """Suggest the nearest known name instead of an unknown one, or say ``otherwise``."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near else otherwise


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error, perhaps a RuntimeError of PyTorch's, says that there is no more memory."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


def one_line(error: BaseException | str) -> str:
    """Shorten an error's message to one line."""
    return shortened(" ".join(str(error).split()), 160)


def shortened(text: str, most: int = 80) -> str:
    """Cut a text to ``most`` characters, and escape line breaks and other control characters in it."""
    shown = (mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text[: most + 1])
    text = "".join(shown)
    return text if len(text) <= most else f"{text[: most - 3]}..."


class _Brief(reprlib.Repr):
    """Describes a value of any size, without ever writing all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 2, 4, 4, 4
        self.maxstring = self.maxother = self.maxlong = 60

    def repr_int(self, value: int, level: int) -> str:
        return super().repr_int(value, level) if value.bit_length() < 4000 else "a very large number"


def described(value: object) -> str:
    """Describe a value in a message: its beginning, and whether it is a text."""
    if value is None:
        return "nothing"
    return f"{'the text ' if isinstance(value, str) else ''}{_Brief().repr(value)}"
