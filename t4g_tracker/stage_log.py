"""Seconds and peak memory of each stage, and the progress bars shown meanwhile."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LOG_EVERY_S = 10.0  # between the lines of a bar that goes into a file

Progress = Callable[[int, int], None]  # told (done, in all) while work goes on
# From a stage's title and unit to what shows its progress, which takes (done, in all) and perhaps a note.
Bar = Callable[[str, str], contextlib.AbstractContextManager[Callable[..., None]]]


@dataclass
class StageLog:
    """What each stage took, in the order they ran."""

    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)  # seconds that an earlier run spent on a stage
    running: str | None = None

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the enclosed work; peaks are of the stage where the system can tell them apart.

        A stage that runs again adds to its seconds. Stages do not nest: time would count twice.
        """
        assert self.running is None, f"stage {name} began inside stage {self.running}"
        self.running = name
        _reset_peak()
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.running = None
            entry = {"seconds": time.perf_counter() - begin, "peak_memory_mb": _peak_mb()}
            if torch.cuda.is_available():
                entry["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
            before = self.stages.get(name, {})
            entry["seconds"] += before.get("seconds", 0.0)
            peaks = {key: max(value, before.get(key, 0.0)) for key, value in entry.items()}
            self.stages[name] = {key: round(value, 2) for key, value in peaks.items()}

    def spent(self, *names: str) -> tuple[float, float]:
        """What named stages take, whether they ran now or are kept from an earlier run.

        Returns:
            Seconds in all, and the highest peak in MB of those that ran now: of the GPU's memory
            where any of them used it, else of the process's.
        """
        ran = [self.stages[name] for name in names if name in self.stages]
        seconds = sum(entry["seconds"] for entry in ran) + sum(self.kept.get(name, 0.0) for name in names)
        on_gpu = max(entry.get("peak_gpu_memory_mb", 0.0) for entry in ran)
        return seconds, on_gpu or max(entry["peak_memory_mb"] for entry in ran)


def _reset_peak() -> None:
    """Forget the process's memory peak (Linux), so that the next stage gets its own."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_mb() -> float:
    """Peak resident memory since the last reset; of the whole process where it cannot be reset."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


@contextlib.contextmanager
def progress_bar(title: str, unit: str, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A tqdm bar with time left, as a callback that takes (done, in all) and perhaps a note.

    It appears with the first call, so a stage that finds its result kept shows none; what is done by then
    does not count for the time left. Log messages go above it. In a file it writes a line now and then.
    """
    bars: list[tqdm[Any]] = []
    every_s = 0.1 if sys.stderr.isatty() else LOG_EVERY_S

    def update(done: int, total: int, note: str = "") -> None:
        if not bars:
            bar = tqdm(
                desc=f"{title:<12}",
                unit=unit,
                initial=done,
                total=total,
                disable=quiet,
                dynamic_ncols=True,
                mininterval=every_s,
            )
            bars.append(bar)
        if note:
            bars[0].set_postfix_str(note, refresh=done == bars[0].n)
        bars[0].total = total  # of a time budget it is an estimate, and changes
        bars[0].update(done - bars[0].n)

    try:
        with logging_redirect_tqdm():
            yield update
    finally:
        for bar in bars:
            bar.close()
