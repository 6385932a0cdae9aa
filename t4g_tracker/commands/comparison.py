"""The table and pictures that ``t4g compare-features`` writes.

How the tracks are made is up to the caller, as in ``t4g bench``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t4g_tracker.files import write_json, write_text
from t4g_tracker.tables import Table, rounded

if TYPE_CHECKING:
    from t4g_tracker.datatypes import QueryPoints, Tracks, Video
    from t4g_tracker.results import Result
    from t4g_tracker.run_files import OutputsConfig


def write_comparison(
    folder: Path,
    video: Video,
    queries: QueryPoints,
    results: Sequence[Result],
    tracking_seconds: Mapping[str, float],
    truth: Tracks | None,
    config: OutputsConfig,
    facts: dict[str, Any],
    progress: Callable[[int, int], None],
) -> list[str]:
    """Write every extractor's tracks, the picture, the video and the tables.

    Args:
        folder: Where to; must exist.
        video: T frames.
        queries: N query points.
        results: One for each extractor, in the order of reading; its seconds are those of extraction.
        tracking_seconds: What tracking took, by the names of the results.
        truth: True tracks of the same points, or None.
        config: Columns of the picture, length of the trails, brightness.
        facts: What else compare.json holds.
        progress: Called with (files written, files in all).

    Returns:
        Names of the files.

    Raises:
        OutputError: If a file cannot be written.
    """
    from t4g_tracker.track_files import write_tracks_npz
    from t4g_tracker.visualize.files import write_picture, write_video
    from t4g_tracker.visualize.sheet import sheet_picture, sheet_video, shown_frames

    def tracks(result: Result) -> None:
        path = folder / f"{result.name}.tracks.npz"
        write_tracks_npz(path, result.own_tracks, queries, video.size, video.fps)

    def picture() -> None:
        frames = shown_frames(video, queries, config.progress_columns)
        sheet = sheet_picture(results, video, queries, frames, truth, config.dim)
        write_picture(folder / "compare.png", sheet)

    def film() -> None:
        played = sheet_video(results, video, queries, truth, config.dim, config.trail_frames)
        write_video(folder / "compare.mp4", played, video.fps)

    table = comparison_table(results, tracking_seconds)
    record = {**facts, **_record(results, tracking_seconds)}
    writers: dict[str, Callable[[], None]] = {
        **{f"{result.name}.tracks.npz": partial(tracks, result) for result in results},
        "compare.png": picture,
        "compare.mp4": film,
        "compare.md": lambda: write_text(folder / "compare.md", table.markdown()),
        "compare.json": lambda: write_json(folder / "compare.json", record),
    }
    for index, write in enumerate(writers.values()):
        write()
        progress(index + 1, len(writers))
    return list(writers)


def comparison_table(results: Sequence[Result], tracking_seconds: Mapping[str, float]) -> Table:
    """A row for each extractor: measures where known, and seconds."""
    measures = list(results[0].measures)
    rows = [
        [
            result.name,
            *(rounded(result.measures[name]) for name in measures),
            "cached" if result.seconds is None else rounded(result.seconds),
            rounded(tracking_seconds[result.name]),
        ]
        for result in results
    ]
    return Table(["features", *measures, "features s", "tracking s"], rows)


def _record(results: Sequence[Result], tracking_seconds: Mapping[str, float]) -> dict[str, Any]:
    """The table as compare.json has it."""
    from t4g_tracker.metrics import EVALUATION_SIZE, Scores

    return {
        "evaluation_size": EVALUATION_SIZE,
        "mode": "strided",
        "rows": [
            {
                "features": result.name,
                **(asdict(Scores.of(result.measures)) if result.measures else {}),
                "features_seconds": result.seconds,
                "features_cached": result.seconds is None,
                "tracking_seconds": tracking_seconds[result.name],
            }
            for result in results
        ],
    }
