"""Seconds and peak memory of each stage, and the progress bars shown meanwhile."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LOG_EVERY_S = 10.0  # between two lines of a bar that is written to a file

Progress = Callable[[int, int], None]  # called with (done, in all) while work proceeds
# Takes a stage's title and unit; yields a function of (done, in all) and optionally a note.
Bar = Callable[[str, str], contextlib.AbstractContextManager[Callable[..., None]]]


@dataclass
class StageLog:
    """Time and memory of each stage, in the order they began.

    Args:
        peaks: Measure memory too. That resets the process's own record of its peak (Linux), so it is off
            when another program imports this package.
    """

    peaks: bool = False
    device: torch.device | None = None  # a GPU's memory is measured too
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    cached: dict[str, float] = field(default_factory=dict)  # seconds that an earlier run spent on a stage
    counted: set[str] = field(default_factory=set)  # keys of values whose seconds are known
    ran: set[str] = field(default_factory=set)  # stages of which this run computed a value
    _running: list[str] = field(default_factory=list)
    _begun: float = 0.0

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the enclosed work, without the stages that run inside it.

        A stage that runs again adds to its seconds; of its peaks the highest counts.
        """
        self._pause()
        self._running.append(name)
        self.stages.setdefault(name, {"seconds": 0.0})
        try:
            yield
        finally:
            self._pause()
            self._running.pop()

    def add_cached(self, name: str, key: str, seconds: float) -> None:
        """Add what an earlier run spent on a value of a stage, unless it is known already.

        Several values may share a stage's name.
        """
        if key not in self.counted:
            self.counted.add(key)
            self.cached[name] = self.cached.get(name, 0.0) + seconds

    def spent(self, *names: str) -> tuple[float, float]:
        """Sum what the named stages took, whether they ran now or in the run that cached them.

        Returns:
            Seconds in all, and the highest peak in MB of the stages that ran now: of the GPU's
            memory if any of them used it, else of the process's.
        """
        ran = [self.stages[name] for name in names if name in self.stages]
        seconds = sum(entry["seconds"] for entry in ran) + sum(self.cached.get(name, 0.0) for name in names)
        on_gpu = max((entry.get("peak_gpu_memory_mb", 0.0) for entry in ran), default=0.0)
        return seconds, on_gpu or max((entry.get("peak_memory_mb", 0.0) for entry in ran), default=0.0)

    def _pause(self) -> None:
        """Charge the time since the last call to the running stage, and restart the measurement."""
        if self._running:
            entry = self.stages[self._running[-1]]
            entry["seconds"] = round(entry["seconds"] + time.perf_counter() - self._begun, 2)
            for kind, peak in self._peaks().items():
                entry[kind] = max(entry.get(kind, 0.0), round(peak, 2))
        if self.peaks:
            _reset_peak(self.device)
        self._begun = time.perf_counter()

    def _peaks(self) -> dict[str, float]:
        if not self.peaks:
            return {}
        peaks = {"peak_memory_mb": _peak_mb()}
        if self.device is not None and self.device.type == "cuda":
            peaks["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        return peaks


def _reset_peak(device: torch.device | None) -> None:
    """Reset the process's memory peak (Linux), so that the next stage gets its own."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if device is not None and device.type == "cuda":
        torch.cuda.init()  # a device with an index is unknown before
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mb() -> float:
    """Read the peak resident memory since the last reset, or of the whole process if it cannot be reset."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return float(getattr(psutil.Process().memory_info(), "peak_wset", 0)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def no_bar(title: str, unit: str) -> contextlib.AbstractContextManager[Callable[..., None]]:
    """A ``Bar`` that shows nothing."""
    return contextlib.nullcontext(lambda done, total, note="": None)


def bars_of(progress: Callable[[str, int, int], None]) -> Bar:
    """Make a ``Bar`` that calls ``progress`` with (stage, done, in all)."""

    @contextlib.contextmanager
    def bar(title: str, unit: str) -> Iterator[Callable[..., None]]:
        yield lambda done, total, note="": progress(title, done, total)

    return bar


@contextlib.contextmanager
def progress_bar(title: str, unit: str, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Show a tqdm bar with time left; yields a function of (done, in all) and optionally a note.

    The bar appears with the first call, so a cached stage shows none; work done by then does not
    count for the time left. Log messages go above it. In a file it writes a line now and then.
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
        bars[0].total = total  # an estimate, which changes, if the budget is time
        bars[0].update(done - bars[0].n)

    try:
        with logging_redirect_tqdm():
            yield update
    finally:
        for bar in bars:
            bar.close()
