"""The progress of running clips, reported by the processes that measure them and shown beside one bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

Report = Callable[[str, str], None]  # takes a clip's name and its progress

SECONDS_BETWEEN = 0.5  # two reports of a clip

_report: Report | None = None  # called by the clips that this process measures


def report_to(report: Report | None) -> None:
    """Send the progress of clips measured in this process to ``report`` from now on; None: nowhere."""
    global _report
    _report = report


@contextlib.contextmanager
def clip_bar(clip: str, title: str, unit: str) -> Iterator[Callable[..., None]]:
    """Report the stage and its share done; replaces ``progress_bar`` when many clips are measured."""
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
