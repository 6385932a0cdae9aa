"""Tables of medians, and how time grows with frames and points."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.measuring import STAGES, Measurement
from benchmarks.results_file import ResultsFile

SHORTEST_S = 0.05  # what takes less is no measure of growth
TITLES = (*(stage.replace("_", " ") for stage in STAGES), "s a step", "start", "all", "peak GB")
HEAD = ("frames", "points", "size", "features", "device")


def machine() -> str:
    """Describe the machine: processor, cores, bfloat16, PyTorch, GPU."""
    import torch

    from t4g_tracker.hardware import cores, pick_precision

    half = pick_precision("auto", torch.device("cpu")) == torch.bfloat16
    parts = [
        _processor(),
        f"{cores()} cores",
        "bfloat16" if half else f"no bfloat16 ({torch.backends.cpu.get_cpu_capability()})",
        f"{torch.get_num_threads()} threads",
        f"PyTorch {torch.__version__}",
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> str:
    """Name the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
        facts = {name.strip(): value.strip() for name, value in facts.items()}
        return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def load() -> str:
    """Say how busy the machine was in the last minute: other work makes times longer."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def medians(runs: Sequence[Measurement]) -> list[float | None]:
    """The median of each column, in the order of ``TITLES``; None for a stage that did not run."""

    def middle(of: Callable[[Measurement], float | None]) -> float | None:
        values = [value for value in map(of, runs) if value is not None]
        return statistics.median(values) if values else None

    stages = [middle(lambda run, stage=stage: run.seconds.get(stage)) for stage in STAGES]  # type: ignore[misc]
    return [
        *stages,
        middle(lambda run: run.step_seconds or None),
        middle(lambda run: run.start_seconds),
        middle(lambda run: run.wall_seconds),
        middle(lambda run: run.peak_mb / 1024),
    ]


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float | None:
    """Fit the exponent p of seconds = a * size**p by least squares of logarithms.

    Returns:
        p; 1 means linear. None if fewer than three sizes take ``SHORTEST_S`` or more.
    """
    points = [
        (math.log(size), math.log(second))
        for size, second in zip(sizes, seconds, strict=True)
        if second >= SHORTEST_S
    ]
    if len({x for x, _ in points}) < 3:
        return None
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def table(cases: Sequence[Case], results: ResultsFile, side: str = "") -> str:
    """The medians of the cases that were measured, as a Markdown table."""
    rows = [row for case in cases if (row := _row(case, results.of(case, side)))]
    return _markdown([*HEAD, *TITLES], rows)


def _row(case: Case, runs: Sequence[Measurement]) -> list[str]:
    if not runs:
        return []
    features = f"{case.channels} channels" if case.channels else "default"
    head = [str(case.frames), str(case.points), f"{case.size[0]}x{case.size[1]}", features, case.device]
    return [*head, *(_figure(value) for value in medians(runs))]


def _figure(value: float | None) -> str:
    """Three digits at most, since no more of a time can be repeated."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def growth(groups: Mapping[str, Sequence[Case]], results: ResultsFile) -> str:
    """Fitted exponents of time against frames and points, as a Markdown table; empty if there are none."""
    rows = []
    for factor in ("frames", "points"):
        for device in dict.fromkeys(case.device for case in groups.get(factor, [])):
            cases = [case for case in groups[factor] if case.device == device and results.of(case)]
            columns = [medians(results.of(case)) for case in cases]
            sizes = [float(getattr(case, factor)) for case in cases]
            fitted = []
            for index in range(len(TITLES) - 1):  # memory has a fixed part, which a power does not fit
                seconds = [column[index] or 0.0 for column in columns]
                exponent = slope(sizes, seconds)
                fitted.append("" if exponent is None else f"{exponent:.2f}")
            if any(fitted):
                rows.append([f"{factor}, {device}", *fitted])
    return _markdown(["time against", *TITLES[:-1]], rows) if rows else ""


def ratios(cases: Sequence[Case], results: ResultsFile, before: str, after: str) -> str:
    """Medians after over medians before, as a Markdown table: below 1 is better."""
    rows = []
    for case in cases:
        old, new = results.of(case, before), results.of(case, after)
        if old and new:
            pairs = zip(medians(old), medians(new), strict=True)
            rows.append([*_row(case, new)[: len(HEAD)], *(_ratio(a, b) for a, b in pairs)])
    return _markdown([*HEAD, *TITLES], rows)


def _ratio(before: float | None, after: float | None) -> str:
    return "" if not before or after is None else f"{after / before:.2f}"
