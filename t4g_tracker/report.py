"""What a run leaves behind: tracks, pictures of how they came about, and a record of the run."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.metrics import Scores, score
from t4g_tracker.outputs import write_run_json, write_tracks_csv, write_tracks_npz
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


def describe(video: Video, queries: QueryPoints, working_size: Size, device: torch.device) -> str:
    """One line that says what is about to be tracked."""
    height, width = video.size
    return (
        f"{video.source}: {video.frame_count} frames of {width}x{height}, {len(queries)} query points, "
        f"working at {working_size[1]}x{working_size[0]} on {device}"
    )


def write_results(
    folder: Path,
    video: Video,
    queries: QueryPoints,
    rows: dict[int, Tracks],
    history: list[dict[str, Any]],
    truth: Tracks | None,
    config: OutputsConfig,
    progress: Callable[[int, int], None],
) -> dict[int, Scores]:
    """Write every file of a run but run.json.

    Args:
        folder: Where to; must exist.
        video: T frames.
        queries: N query points.
        rows: Step to tracks; the last step's are the result.
        history: Rows of the optimisation, for the curve.
        truth: True tracks of the same points, or None.
        config: Which pictures.
        progress: Called with (files written, files in all).

    Returns:
        Step to scores, over all frames but each point's query frame; empty without truth.

    Raises:
        OutputError: If a file cannot be written.
    """
    result = rows[max(rows)]
    scores = (
        {}
        if truth is None
        else {step: _score(tracks, truth, queries, video) for step, tracks in rows.items()}
    )
    writers: list[Callable[[], None]] = [
        lambda: write_tracks_npz(folder / "tracks.npz", result, queries, video.size, video.fps),
        lambda: write_tracks_csv(folder / "tracks.csv", result, queries),
    ]
    if config.overlay:
        overlay = draw_overlay(video, result, queries, config.trail_frames, config.dim)
        writers.append(lambda: write_video(folder / "overlay.mp4", overlay, video.fps))
    if config.progress:
        writers += _progress_writers(folder, video, queries, rows, history, truth, scores, config)
    for index, write in enumerate(writers):
        write()
        progress(index + 1, len(writers))
    return scores


def _score(tracks: Tracks, truth: Tracks, queries: QueryPoints, video: Video) -> Scores:
    return score(tracks, truth.xy, truth.visibility, queries.frame, video.size, "strided")


def _progress_writers(
    folder: Path,
    video: Video,
    queries: QueryPoints,
    rows: dict[int, Tracks],
    history: list[dict[str, Any]],
    truth: Tracks | None,
    scores: dict[int, Scores],
    config: OutputsConfig,
) -> list[Callable[[], None]]:
    """Writers of progress.png, progress.mp4 and curve.png."""
    labelled = [(f"step {step}" if step else "frozen features", rows[step]) for step in sorted(rows)]
    captions = [f"delta_avg {scores[step].delta_avg:.1f}" for step in sorted(rows)] if scores else None
    columns = sorted(
        set(torch.linspace(0, video.frame_count - 1, config.progress_columns).round().long().tolist())
    )
    measured = [dict(row) for row in history]
    for row in measured:
        if row["step"] in scores:
            row["delta_avg"] = scores[row["step"]].delta_avg

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
    scores: dict[int, Scores],
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
            "scores": {str(step): vars(found) for step, found in scores.items()},
        },
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def closing_lines(folder: Path, scores: dict[int, Scores], stages: dict[str, dict[str, float]]) -> list[str]:
    """What to tell the user at the end: accuracy if known, time, and where the results are."""
    lines = []
    if scores:
        lines.append("accuracy against the true tracks, scaled to 256x256:")
        for step in (min(scores), max(scores)):
            found = scores[step]
            name = f"after {step} steps" if step else "frozen features"
            lines.append(
                f"  {name:<18} delta_avg {_one(found.delta_avg)}   AJ {_one(found.average_jaccard)}   "
                f"OA {_one(found.occlusion_accuracy)}   within 1 px {_one(found.within_1px)}"
            )
    spent = ", ".join(f"{name} {entry['seconds']:.0f} s" for name, entry in stages.items())
    peak = max(entry["peak_memory_mb"] for entry in stages.values())
    lines.append(f"took {spent}; at most {peak / 1000:.1f} GB of memory")
    lines.append(
        f"results: {folder}/ (tracks.npz, tracks.csv, overlay.mp4, progress.png, curve.png, run.json)"
    )
    return lines


def _one(value: float) -> str:
    return "  -  " if math.isnan(value) else f"{value:5.1f}"
