"""How far the clips in hand are: told by the processes that measure them, shown beside one bar over all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

Tell = Callable[[str, str], None]  # takes a clip's name, and where it is

SECONDS_BETWEEN = 0.5

_tell: Tell | None = None  # where the clips that this process measures say how far they are


def tell_to(tell: Tell | None) -> None:
    """From now on, clips measured in this process tell ``tell``; None: nobody."""
    global _tell
    _tell = tell


@contextlib.contextmanager
def clip_bar(clip: str, title: str, unit: str) -> Iterator[Callable[..., None]]:
    """In place of ``progress_bar`` where many clips are measured: tells stage and share done."""
    last = 0.0

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if _tell is not None and now - last >= SECONDS_BETWEEN:
            last = now
            _tell(clip, f"{title} {100 * done // max(total, 1)} %")

    if _tell is not None:
        _tell(clip, title)
    yield update
