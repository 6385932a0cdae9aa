"""The tables and pictures that ``t4g compare-features`` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from t4g_tracker.choices import Extractor
from t4g_tracker.outputs.result_folder import Kind, finish_record, write_results
from t4g_tracker.storage.files import write_text
from t4g_tracker.tables import Table, rounded

if TYPE_CHECKING:
    from t4g_tracker.datatypes import QueryPoints, Tracks, Video
    from t4g_tracker.outputs.result_folder import Writers
    from t4g_tracker.outputs.run_files import OutputsConfig
    from t4g_tracker.results import Result

COMPARISON = Kind(
    record="compare.json",
    files=frozenset(
        ["compare.json", "compare.md", "compare.png", "compare.mp4"]
        + [f"{name}.tracks.npz" for name in get_args(Extractor)]
    ),
)


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
        folder: The output folder; must exist.
        video: T frames.
        queries: N query points.
        results: One for each extractor, in the order of display; its seconds are those of extraction.
        tracking_seconds: Seconds of tracking, by the names of the results.
        truth: True tracks of the same points, or None.
        config: Columns of the picture, length of the trails, brightness.
        facts: Further content of compare.json.
        progress: Called with (files written, files in all).

    Returns:
        Names of the files, sorted.

    Raises:
        OutputError: If a file cannot be written.
    """
    from t4g_tracker.outputs.run_files import sheet_writers, write_npz

    def writer(result: Result) -> Callable[[Path], None]:
        return lambda path: write_npz(path, video, queries, result.own_tracks)

    table = comparison_table(results, tracking_seconds)
    record = {**facts, **_record(results, tracking_seconds)}
    tracks: Writers = {
        **{f"{result.name}.tracks.npz": writer(result) for result in results},
        "compare.md": lambda path: write_text(path, table.markdown()),
    }
    pictures = sheet_writers("compare", results, video, queries, truth, config, config.trail_frames)
    files = write_results(folder, COMPARISON, record, tracks, pictures, progress)
    finish_record(folder, COMPARISON, files, record)
    return files


def comparison_table(results: Sequence[Result], tracking_seconds: Mapping[str, float]) -> Table:
    """Make a table with a row for each extractor: measures if known, and seconds."""
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
    """The table's content for compare.json."""
    from t4g_tracker.metrics import EVALUATION_SIZE

    return {
        "evaluation_size": EVALUATION_SIZE,
        "mode": "strided",
        "rows": [
            {
                "features": result.name,
                **result.measures,
                "features_seconds": result.seconds,
                "features_cached": result.seconds is None,
                "tracking_seconds": tracking_seconds[result.name],
            }
            for result in results
        ],
    }
