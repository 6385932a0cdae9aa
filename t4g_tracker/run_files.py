"""The files that a run writes: tracks, pictures of the optimisation's progress, a record of the run."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.files import write_json
from t4g_tracker.limits import Limits, check_limits
from t4g_tracker.results import Result
from t4g_tracker.stage_log import Progress
from t4g_tracker.track_files import write_tracks_csv, write_tracks_npz
from t4g_tracker.visualize.curve import plot_curve
from t4g_tracker.visualize.encoding import write_picture, write_video
from t4g_tracker.visualize.overlay import paint_overlay
from t4g_tracker.visualize.sheet import sheet_picture, sheet_video, shown_frames

Writers = dict[str, Callable[[Path], None]]  # by the names of their files

PACKAGES = ("t4g-tracker", "torch", "torchvision", "diffusers", "numpy", "opencv-python-headless", "av")


@dataclass(frozen=True, kw_only=True)
class OutputsConfig:
    """Which pictures a run paints, and how."""

    overlay: bool = True  # overlay.mp4
    progress: bool = True  # progress.png, progress.mp4 and curve.png
    trail_frames: int = 12  # length of the trails in the overlay
    dim: float = 0.6  # brightness of the video behind the tracks, 0..1
    progress_columns: int = 6  # frames shown in progress.png

    LIMITS: ClassVar[Limits] = {"trail_frames": (0, 100_000), "dim": (0, 1), "progress_columns": (1, 100)}

    def __post_init__(self) -> None:
        check_limits(self, "outputs")


def result_files(config: OutputsConfig) -> list[str]:
    """List the files that a run with these settings writes; others in its folder are from earlier runs."""
    files = ["run.json", "tracks.csv", "tracks.npz"]
    files += ["overlay.mp4"] if config.overlay else []
    files += ["curve.png", "progress.mp4", "progress.png"] if config.progress else []
    return sorted(files)


def write_results(
    folder: Path,
    video: Video,
    queries: QueryPoints,
    results: Sequence[Result],
    history: Sequence[dict[str, Any]],
    truth: Tracks | None,
    config: OutputsConfig,
    progress: Progress,
) -> None:
    """Write every file of a run except run.json.

    Args:
        folder: The output folder; must exist.
        video: T frames.
        queries: N query points.
        results: Results at steps of the optimisation; the last is the result of the run.
        history: Rows of the optimisation, for the curve.
        truth: True tracks of the same points, or None.
        config: Which pictures.
        progress: Called with (files written, files in all).

    Raises:
        OutputError: If a file cannot be written.
    """
    tracks = results[-1].own_tracks
    writers: Writers = {
        "tracks.npz": lambda path: write_tracks_npz(path, tracks, queries, video.size, video.fps),
        "tracks.csv": lambda path: write_tracks_csv(path, tracks, queries),
    }
    if config.overlay:
        overlay = paint_overlay(video, tracks, queries, config.trail_frames, config.dim)
        writers["overlay.mp4"] = lambda path: write_video(path, overlay, video.fps)
    if config.progress:
        measured = {r.step: r.measures["delta_avg"] for r in reversed(results) if r.measures}
        curve = [{**row, "delta_avg": measured.get(row["step"])} for row in history]
        writers |= sheet_writers("progress", results, video, queries, truth, config)
        writers["curve.png"] = lambda path: plot_curve(path, curve)
    write_all(folder, writers, progress)


def sheet_writers(
    name: str,
    results: Sequence[Result],
    video: Video,
    queries: QueryPoints,
    truth: Tracks | None,
    config: OutputsConfig,
    trail_frames: int = 0,
) -> Writers:
    """Make the writers of a sheet: results side by side, as a picture and as a film."""

    def picture(path: Path) -> None:
        frames = shown_frames(video, queries, config.progress_columns)
        write_picture(path, sheet_picture(results, video, queries, frames, truth, config.dim))

    film = sheet_video(results, video, queries, truth, config.dim, trail_frames)
    return {f"{name}.png": picture, f"{name}.mp4": lambda path: write_video(path, film, video.fps)}


def write_all(folder: Path, writers: Writers, progress: Progress) -> None:
    """Write the files of ``writers`` to a folder, and report how many are done."""
    for index, (name, write) in enumerate(writers.items()):
        write(folder / name)
        progress(index + 1, len(writers))


def write_run(
    folder: Path,
    *,
    arguments: dict[str, Any],
    settings: dict[str, Any],
    stages: dict[str, dict[str, float]],
    results: Sequence[Result],
    seed: int,
    device: torch.device,
    seconds_per_step: float,
) -> None:
    """Write run.json: the request, every setting, versions, accuracy, and what each stage took."""
    write_json(
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
            "scores": {result.name: result.measures for result in results if result.measures},
        },
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
