"""How far the clips in hand are: reported by the processes that measure them, shown beside one bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

Report = Callable[[str, str], None]  # takes a clip's name, and how far it is

SECONDS_BETWEEN = 0.5

_report: Report | None = None  # where the clips that this process measures report to


def report_to(report: Report | None) -> None:
    """From now on, clips measured in this process report to ``report``; None: to nobody."""
    global _report
    _report = report


@contextlib.contextmanager
def clip_bar(clip: str, title: str, unit: str) -> Iterator[Callable[..., None]]:
    """In place of ``progress_bar`` where many clips are measured: reports the stage and its share done."""
    last = 0.0

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if _report is not None and now - last >= SECONDS_BETWEEN:
            last = now
            _report(clip, f"{title} {100 * done // max(total, 1)} %")

    if _report is not None:
        _report(clip, title)
    yield update
