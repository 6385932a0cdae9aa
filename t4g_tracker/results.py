"""The result of a method on a clip: tracks, accuracy and cost; and the summary that a run prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from t4g_tracker.choices import QueryMode
from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.metrics import MEASURES, score
from t4g_tracker.stage_log import StageLog
from t4g_tracker.tables import Table, rounded

# in the order of the way of the data, which is not that in which they run: each runs when it is first needed
STAGES = (
    "features",
    "flow",
    "trajectories",
    "buddies",
    "adaptation",
    "query_flow",
    "tracking",
    "outputs",
)


@dataclass(frozen=True)
class Result:
    """The tracks of one method, with its name, accuracy and cost."""

    name: str
    tracks: Tracks | None = None  # None if only figures are passed on, as between processes
    measures: dict[str, float] = field(default_factory=dict)  # percent, by name; empty without truth
    seconds: float | None = None  # None: cached by an earlier run, or not measured
    peak_memory_mb: float | None = None
    step: int | None = None  # step of the optimisation, in pictures of its progress

    @property
    def own_tracks(self) -> Tracks:
        """The tracks, which must not be missing here."""
        assert self.tracks is not None, f"the tracks of {self.name} were not passed on"
        return self.tracks

    def as_json(self) -> dict[str, Any]:
        """The figures that a batch records."""
        return {
            "method": self.name,
            "measures": self.measures,
            "seconds": self.seconds,
            "peak_memory_mb": self.peak_memory_mb,
        }

    @staticmethod
    def from_json(record: dict[str, Any]) -> Result:
        """Read a record of ``as_json``; raises KeyError or TypeError if it is not one."""
        figures = dict(record)
        return Result(figures.pop("method"), **figures)


def score_results(
    results: Sequence[Result], truth: Tracks, queries: QueryPoints, video: Video, mode: QueryMode = "strided"
) -> list[Result]:
    """Score every result against the truth, over the frames that count in this query mode."""
    return [
        replace(result, measures=score(result.own_tracks, truth, queries, video.size, mode).measures())
        for result in results
    ]


def best_measures(results: Sequence[Result]) -> dict[str, float]:
    """The highest value of each measure; empty for a single result."""
    if len(results) < 2:
        return {}
    return {name: max(result.measures[name] for result in results) for name in results[0].measures}


def describe(video: Video, queries: QueryPoints, working_size: Size, device: torch.device) -> str:
    """Describe in one line what is about to be tracked."""
    height, width = video.size
    return (
        f"{video.source}: {video.frame_count} frames of {width}x{height}, {len(queries)} query points, "
        f"working at {working_size[1]}x{working_size[0]} on {device}"
    )


def _seconds(log: StageLog, name: str) -> str:
    return f"{log.stages[name]['seconds']:.0f} s"


def closing_lines(
    folder: Path, results: Sequence[Result], log: StageLog, files: Sequence[str], note: str = ""
) -> list[str]:
    """The summary that a run prints at its end: accuracy if known, a note on it, time, memory, files."""
    lines = []
    scored = [result for result in results if result.measures]
    if scored:
        rows = [[result.name, *(rounded(result.measures[name]) for name in MEASURES)] for result in scored]
        lines.append("accuracy in percent against the true tracks, scaled to 256x256:")
        lines += [f"  {line}" for line in Table(["", *MEASURES], rows).console()]
    lines += [note] if note else []
    spent = ", ".join(
        f"{name} {'cached' if name in log.cached and name not in log.ran else _seconds(log, name)}"
        for name in sorted(log.stages, key=lambda name: STAGES.index(name) if name in STAGES else len(STAGES))
    )
    peak = max((entry.get("peak_memory_mb", 0.0) for entry in log.stages.values()), default=0.0)
    on_gpu = max((entry.get("peak_gpu_memory_mb", 0.0) for entry in log.stages.values()), default=0.0)
    gpu = f" and {on_gpu / 1000:.1f} GB of the GPU's" if on_gpu else ""
    lines.append(f"took {spent}; at most {peak / 1000:.1f} GB of memory{gpu}")
    lines.append(f"results in {folder}: {', '.join(files)}")
    return lines
