"""``t4g compare-features``: its arguments, and the table and pictures it writes.

How the tracks are made is up to the caller, as in ``t4g bench``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from t4g_tracker.choices import Extractor
from t4g_tracker.commands.arguments import (
    PointsRequest,
    RunRequest,
    add_common_arguments,
    add_point_arguments,
    check_points,
)
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features.settings import GROUPS, FeaturesConfig
from t4g_tracker.files import write_json, write_text
from t4g_tracker.tables import Table, rounded

if TYPE_CHECKING:
    from t4g_tracker.datatypes import QueryPoints, Tracks, Video
    from t4g_tracker.results import Result
    from t4g_tracker.run_files import OutputsConfig, Writers

# The group of settings whose model an extractor reads, where the model can be chosen.
MODEL_OF = {name: group for name, group in GROUPS.items() if name not in ("patch", "track4gen-mini")}


@dataclass(frozen=True)
class Choice:
    """One extractor to compare."""

    name: Extractor
    model: str = ""  # folder or hub name; empty: what the settings say


@dataclass(frozen=True)
class CompareRequest(RunRequest, PointsRequest):
    """The arguments of ``t4g compare-features``."""

    features: list[Choice]
    out: Path | None


def parse_compare(argv: list[str] | None) -> CompareRequest:
    """Read the arguments of ``t4g compare-features``; exits with code 2 on wrong usage."""
    parser = argparse.ArgumentParser(
        prog="t4g compare-features",
        description="Track the same query points with the frozen features of several extractors, without "
        "adaptation and without flow, and show them side by side.",
    )
    add_point_arguments(parser)
    parser.add_argument(
        "--features",
        type=_choice,
        nargs="+",
        required=True,
        metavar="NAME[=FOLDER]",
        help=f"one or more of {', '.join(get_args(Extractor))}; =FOLDER names the model to read",
    )
    parser.add_argument("--out", type=Path, help="folder for results (default outputs/<clip>-features)")
    add_common_arguments(parser)
    request = CompareRequest(**vars(parser.parse_args(argv)))
    check_points(parser, request)
    names = [choice.name for choice in request.features]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        parser.error(f"argument --features: {twice[0]} is named twice; name each extractor once")
    return request


def _choice(text: str) -> Choice:
    name, equals, model = text.partition("=")
    known = get_args(Extractor)
    if name not in known:
        raise argparse.ArgumentTypeError(f"invalid choice: {name!r} (choose from {', '.join(known)})")
    if equals and (name not in MODEL_OF or not model):
        readers = ", ".join(f"{reader}=FOLDER" for reader in MODEL_OF)
        raise argparse.ArgumentTypeError(f"{text}: a model can be named as {readers}; write {name} alone")
    return Choice(name, model)  # type: ignore[arg-type]


def choose_features(base: FeaturesConfig, choices: list[Choice]) -> dict[str, FeaturesConfig]:
    """The settings of each extractor to compare, by its name.

    Args:
        base: What the settings say of all of them.
        choices: The extractors.

    Raises:
        ConfigError: If one folder would be read as two models.
    """
    shared = [
        choice.name for choice in choices if MODEL_OF.get(choice.name) == "diffusion" and not choice.model
    ]
    if base.diffusion.model and len(shared) > 1:
        raise ConfigError(
            f"--features: {' and '.join(shared)} would both read features.diffusion.model="
            f"{base.diffusion.model}; name a folder for each: {' '.join(f'{name}=FOLDER' for name in shared)}"
        )
    return {choice.name: _chosen(base, choice) for choice in choices}


def _chosen(base: FeaturesConfig, choice: Choice) -> FeaturesConfig:
    changes: dict[str, Any] = {"extractor": choice.name}
    if choice.name == "track4gen-mini":  # comes with its own; the model named is for the others
        changes["diffusion"] = replace(base.diffusion, model="")
    if choice.model:
        group = MODEL_OF[choice.name]
        changes[group] = replace(getattr(base, group), model=choice.model)
    return replace(base, **changes)


def check_choices(chosen: dict[str, FeaturesConfig]) -> None:
    """Check that every extractor's weights are there, before any work.

    Raises:
        WeightsError: Naming the first one whose weights are missing, and what to do.
    """
    from t4g_tracker.features.extractor import check_features

    for name, config in chosen.items():
        try:
            check_features(config)
        except WeightsError as error:
            here = f"; here that is --features {name}=FOLDER" if name in MODEL_OF else ""
            raise WeightsError(f"--features {name}: {error}{here}") from error


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
    from t4g_tracker.run_files import sheet_writers, write_all
    from t4g_tracker.track_files import write_tracks_npz

    def tracks(result: Result, path: Path) -> None:
        write_tracks_npz(path, result.own_tracks, queries, video.size, video.fps)

    table = comparison_table(results, tracking_seconds)
    record = {**facts, **_record(results, tracking_seconds)}
    writers: Writers = {
        **{f"{result.name}.tracks.npz": partial(tracks, result) for result in results},
        **sheet_writers("compare", results, video, queries, truth, config, config.trail_frames),
        "compare.md": lambda path: write_text(path, table.markdown()),
        "compare.json": lambda path: write_json(path, record),
    }
    write_all(folder, writers, progress)
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
