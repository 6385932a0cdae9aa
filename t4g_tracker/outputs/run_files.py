"""The files that a run writes beside its record: tracks, and pictures of the optimisation's progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.limits import Limits, check_limits
from t4g_tracker.outputs.result_folder import Kind, Writers
from t4g_tracker.outputs.track_files import write_tracks_csv, write_tracks_npz
from t4g_tracker.results import Result
from t4g_tracker.visualize.curve import plot_curve
from t4g_tracker.visualize.encoding import write_picture, write_video
from t4g_tracker.visualize.overlay import paint_overlay
from t4g_tracker.visualize.sheet import sheet_picture, sheet_video, shown_frames


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


RUN = Kind(
    record="run.json",
    files=frozenset(
        ["run.json", "tracks.csv", "tracks.npz", "overlay.mp4", "curve.png", "progress.mp4", "progress.png"]
    ),
)


def track_writers(video: Video, queries: QueryPoints, tracks: Tracks) -> Writers:
    """Make the writers of the tracks."""
    return {
        "tracks.npz": lambda path: write_npz(path, video, queries, tracks),
        "tracks.csv": lambda path: write_tracks_csv(
            path, tracks, queries, video.fps, times=video.times, start_frame=video.start_frame
        ),
    }


def write_npz(path: Path, video: Video, queries: QueryPoints, tracks: Tracks) -> None:
    """Write tracks as npz, with what is known of their video."""
    write_tracks_npz(
        path,
        tracks,
        queries,
        video.size,
        video.fps,
        times=video.times,
        start_frame=video.start_frame,
        pixel_aspect=video.pixel_aspect,
    )


def picture_writers(
    video: Video,
    queries: QueryPoints,
    results: Sequence[Result],
    history: Sequence[dict[str, Any]],
    truth: Tracks | None,
    config: OutputsConfig,
) -> Writers:
    """Make the writers of the pictures that are wanted.

    Args:
        video: T frames.
        queries: N query points.
        results: Results at steps of the optimisation; the last is the result of the run.
        history: Rows of the optimisation, for the curve.
        truth: True tracks of the same points, or None.
        config: Which pictures.
    """
    writers: Writers = {}
    if config.overlay:
        writers["overlay.mp4"] = lambda path: write_overlay(
            path, video, queries, results[-1].own_tracks, config
        )
    if config.progress:
        measured = {r.step: r.measures["delta_avg"] for r in reversed(results) if r.measures}
        curve = [{**row, "delta_avg": measured.get(row["step"])} for row in history]
        writers |= sheet_writers("progress", results, video, queries, truth, config)
        writers["curve.png"] = lambda path: plot_curve(path, curve)
    return writers


def write_overlay(
    path: Path, video: Video, queries: QueryPoints, tracks: Tracks, config: OutputsConfig
) -> None:
    """Write the tracks painted on the video, its frames timed and shaped like the source's."""
    frames = paint_overlay(video, tracks, queries, config.trail_frames, config.dim)
    write_video(path, frames, video.fps, times=video.times, pixel_aspect=video.pixel_aspect)


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

    def movie(path: Path) -> None:
        film = sheet_video(results, video, queries, truth, config.dim, trail_frames)
        write_video(path, film, video.fps, times=video.times)

    return {f"{name}.png": picture, f"{name}.mp4": movie}
