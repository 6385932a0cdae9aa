"""The tables and pictures that ``t4g compare-features`` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from t4g_tracker.choices import Extractor
from t4g_tracker.errors import warnings_so_far
from t4g_tracker.outputs.result_folder import Kind, finish_record, write_results
from t4g_tracker.storage.files import write_text
from t4g_tracker.tables import Table, rounded

if TYPE_CHECKING:
    from t4g_tracker.commands.points import Inputs
    from t4g_tracker.outputs.result_folder import Writers
    from t4g_tracker.outputs.run_record import Destination
    from t4g_tracker.pipeline import Config
    from t4g_tracker.results import Result
    from t4g_tracker.stage_cache import Run

COMPARISON = Kind(
    record="compare.json",
    files=frozenset(
        ["compare.json", "compare.md", "compare.png", "compare.mp4"]
        + [f"{name}.tracks.npz" for name in get_args(Extractor)]
    ),
    suffix="-features",
)


def write_comparison(
    inputs: Inputs,
    results: Sequence[Result],
    tracking_seconds: Mapping[str, float],
    configs: Mapping[str, Config],
    run: Run,
    destination: Destination,
    raw: bool,
) -> list[str]:
    """Write every extractor's tracks, the picture, the video and the tables.

    Args:
        inputs: Video, query points and true tracks.
        results: One for each extractor, in the order of display; its seconds are those of extraction.
        tracking_seconds: Seconds of tracking, by the names of the results.
        configs: Settings by the names of the results; how pictures look is the same in all.
        run: Seed, device and progress bars.
        destination: The output folder, and what the record says of the run's origin.
        raw: Whether features were matched as their extractor gives them.

    Returns:
        Names of the files, sorted.

    Raises:
        OutputError: If a file cannot be written.
    """
    from t4g_tracker.outputs.run_files import sheet_writers, write_npz
    from t4g_tracker.outputs.run_record import machine_facts
    from t4g_tracker.storage.files import plain_values

    video, queries = inputs.video, inputs.queries

    def writer(result: Result) -> Callable[[Path], None]:
        return lambda path: write_npz(path, video, queries, result.own_tracks)

    table = comparison_table(results, tracking_seconds)
    record = {
        **destination.call.facts(),
        **destination.facts,
        "warnings": warnings_so_far(),
        "settings": {name: plain_values(config) for name, config in configs.items()},
        **machine_facts(run.seed, run.device),
        "raw": raw,
        **_record(results, tracking_seconds),
    }
    tracks: Writers = {
        **{f"{result.name}.tracks.npz": writer(result) for result in results},
        "compare.md": lambda path: write_text(path, table.markdown()),
    }
    look = next(iter(configs.values())).outputs
    pictures = sheet_writers("compare", results, video, queries, inputs.truth, look, look.trail_frames)
    with run.bar("outputs", "file") as report:
        files = write_results(destination.folder, COMPARISON, record, tracks, pictures, report)
        finish_record(destination.folder, COMPARISON, files, record)
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


def closing_lines(
    folder: Path, results: Sequence[Result], tracking_seconds: Mapping[str, float], files: Sequence[str]
) -> list[str]:
    """The summary that the command prints at its end."""
    lines = comparison_table(results, tracking_seconds).console()
    if results[0].measures:
        lines.append("scores in percent, scaled to 256x256, over all frames except each point's query frame")
    return [*lines, f"results in {folder}: {', '.join(files)}"]


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
