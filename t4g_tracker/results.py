"""What a run leaves behind: tracks, pictures of how they came about, and a record of the run."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from t4g_tracker.choices import QueryMode
from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.files import write_run_json, write_tracks_csv, write_tracks_npz
from t4g_tracker.metrics import Scores, score
from t4g_tracker.stage_log import StageLog
from t4g_tracker.visualize.curve import draw_curve
from t4g_tracker.visualize.overlay import draw_overlay, write_picture, write_video
from t4g_tracker.visualize.progress import progress_picture, progress_video

PACKAGES = ("t4g-tracker", "torch", "torchvision", "diffusers", "numpy", "opencv-python-headless", "av")


@dataclass(frozen=True, kw_only=True)
class OutputsConfig:
    """Which pictures a run draws, and how."""

    overlay: bool = True  # overlay.mp4
    progress: bool = True  # progress.png, progress.mp4 and curve.png
    trail_frames: int = 12  # length of the trails in the overlay
    dim: float = 0.6  # brightness of the video behind the tracks, 0..1
    progress_columns: int = 6  # frames shown in progress.png

    def __post_init__(self) -> None:
        if self.trail_frames < 0 or self.progress_columns < 1:
            raise ConfigError("outputs: trail_frames must be 0 or more and progress_columns 1 or more")
        if not 0 <= self.dim <= 1:
            raise ConfigError(f"outputs.dim must be between 0 and 1, got {self.dim}")


@dataclass(frozen=True)
class Row:
    """Tracks at one state of the optimisation; the last row of a run is its result."""

    label: str
    step: int
    tracks: Tracks
    scores: Scores | None = None  # when the truth is known


def describe(video: Video, queries: QueryPoints, working_size: Size, device: torch.device) -> str:
    """One line that says what is about to be tracked."""
    height, width = video.size
    return (
        f"{video.source}: {video.frame_count} frames of {width}x{height}, {len(queries)} query points, "
        f"working at {working_size[1]}x{working_size[0]} on {device}"
    )


def score_rows(
    rows: list[Row], truth: Tracks, queries: QueryPoints, video: Video, mode: QueryMode = "strided"
) -> list[Row]:
    """Compare every row with the truth: over all frames but each point's query frame, or those after it."""
    return [
        replace(
            row,
            scores=score(row.tracks, truth.xy, truth.visibility, queries.frame, video.size, mode),
        )
        for row in rows
    ]


def write_results(
    folder: Path,
    video: Video,
    queries: QueryPoints,
    rows: list[Row],
    history: list[dict[str, Any]],
    truth: Tracks | None,
    config: OutputsConfig,
    progress: Callable[[int, int], None],
) -> None:
    """Write every file of a run but run.json.

    Args:
        folder: Where to; must exist.
        video: T frames.
        queries: N query points.
        rows: States of the optimisation; the last one is the result.
        history: Rows of the optimisation, for the curve.
        truth: True tracks of the same points, or None.
        config: Which pictures.
        progress: Called with (files written, files in all).

    Raises:
        OutputError: If a file cannot be written.
    """
    result = rows[-1].tracks
    writers: list[Callable[[], None]] = [
        lambda: write_tracks_npz(folder / "tracks.npz", result, queries, video.size, video.fps),
        lambda: write_tracks_csv(folder / "tracks.csv", result, queries),
    ]
    if config.overlay:
        overlay = draw_overlay(video, result, queries, config.trail_frames, config.dim)
        writers.append(lambda: write_video(folder / "overlay.mp4", overlay, video.fps))
    if config.progress:
        writers += _progress_writers(folder, video, queries, rows, history, truth, config)
    for index, write in enumerate(writers):
        write()
        progress(index + 1, len(writers))


def _progress_writers(
    folder: Path,
    video: Video,
    queries: QueryPoints,
    rows: list[Row],
    history: list[dict[str, Any]],
    truth: Tracks | None,
    config: OutputsConfig,
) -> list[Callable[[], None]]:
    """Writers of progress.png, progress.mp4 and curve.png."""
    labelled = [(row.label, row.tracks) for row in rows]
    captions = [f"delta_avg {row.scores.delta_avg:.1f}" for row in rows if row.scores] or None
    columns = sorted(
        set(torch.linspace(0, video.frame_count - 1, config.progress_columns).round().long().tolist())
    )
    matched = {row.step: row.scores.delta_avg for row in reversed(rows) if row.scores}
    measured = [{**entry, "delta_avg": matched.get(entry["step"])} for entry in history]

    def picture() -> None:
        table = progress_picture(labelled, video, queries, columns, truth, captions)
        write_picture(folder / "progress.png", table)

    def moving() -> None:
        frames = progress_video(labelled, video, queries, truth, captions)
        write_video(folder / "progress.mp4", frames, video.fps)

    return [picture, moving, lambda: draw_curve(folder / "curve.png", measured)]


def write_run(
    folder: Path,
    *,
    arguments: dict[str, Any],
    settings: dict[str, Any],
    stages: dict[str, dict[str, float]],
    rows: list[Row],
    seed: int,
    device: torch.device,
    seconds_per_step: float,
) -> None:
    """Write run.json: what was asked, every setting, versions, and what each stage took."""
    write_run_json(
        folder / "run.json",
        {
            "arguments": arguments,
            "settings": settings,
            "seed": seed,
            "device": str(device),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": {name: _version(name) for name in PACKAGES},
            "stages": stages,
            "median_seconds_per_step": round(seconds_per_step, 4),
            "scores": {row.label: asdict(row.scores) for row in rows if row.scores},
        },
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def result_files(config: OutputsConfig) -> list[str]:
    """Names of the files that a run with these settings writes; others in its folder are of earlier runs."""
    files = ["run.json", "tracks.csv", "tracks.npz"]
    files += ["overlay.mp4"] if config.overlay else []
    files += ["curve.png", "progress.mp4", "progress.png"] if config.progress else []
    return sorted(files)


def closing_lines(folder: Path, rows: list[Row], log: StageLog, config: OutputsConfig) -> list[str]:
    """What to tell the user at the end: accuracy if known, time, and where the results are."""
    lines = []
    if rows[-1].scores is not None:
        lines.append("accuracy against the true tracks, scaled to 256x256:")
    for row in rows:
        if row.scores is not None:
            lines.append(
                f"  {row.label:<16} delta_avg {_one(row.scores.delta_avg)}   "
                f"AJ {_one(row.scores.average_jaccard)}   OA {_one(row.scores.occlusion_accuracy)}   "
                f"within 1 px {_one(row.scores.within_1px)}"
            )
    spent = ", ".join(
        f"{name} {'cached' if name in log.cached else format(entry['seconds'], '.0f') + ' s'}"
        for name, entry in log.stages.items()
    )
    peak = max(entry["peak_memory_mb"] for entry in log.stages.values())
    lines.append(f"took {spent}; at most {peak / 1000:.1f} GB of memory")
    lines.append(f"results in {folder}: {', '.join(result_files(config))}")
    return lines


def _one(value: float) -> str:
    return "  -  " if math.isnan(value) else f"{value:5.1f}"
