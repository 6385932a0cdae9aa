"""``t4g compare-features``: frozen features of several extractors on one's own video, side by side."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
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
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features.settings import GROUPS, FeaturesConfig

if TYPE_CHECKING:
    from t4g_tracker.datatypes import QueryPoints
    from t4g_tracker.pipeline import Clip, Config
    from t4g_tracker.results import Result
    from t4g_tracker.stage_cache import Run

# The group of settings whose model an extractor reads, where the model can be chosen.
MODEL_OF = {name: group for name, group in GROUPS.items() if name not in ("patch", "track4gen-mini")}


@dataclass(frozen=True)
class Choice:
    """One extractor to compare."""

    name: Extractor
    model: str = ""  # folder or hub name; empty: what the settings say


@dataclass(frozen=True)
class CompareRequest(RunRequest, PointsRequest):
    """What the user asked ``t4g compare-features`` for."""

    features: list[Choice]
    out: Path | None


def main(argv: list[str] | None = None) -> int:
    """``t4g compare-features``: returns the exit code."""
    return guarded(_compare_command, argv)


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


def _compare_command(argv: list[str] | None) -> int:
    request = parse_compare(argv)
    from t4g_tracker import Config, read_settings, read_video
    from t4g_tracker.commands.comparison import comparison_table, write_comparison
    from t4g_tracker.commands.points import request_queries, request_truth
    from t4g_tracker.commands.runs import run_of
    from t4g_tracker.config import as_dict
    from t4g_tracker.files import prepare_output_folder
    from t4g_tracker.pipeline import open_clip
    from t4g_tracker.results import describe, score_results

    base = read_settings(Config(), request.config, request.assignments)
    chosen = choose_features(base.features, request.features)
    configs = {name: replace(base, features=features) for name, features in chosen.items()}
    run = run_of(request)
    video = read_video(request.video, request.first_frames)
    queries = request_queries(request, video)
    truth = request_truth(request, video, queries)
    check_choices(chosen)
    folder = prepare_output_folder(request.out or f"outputs/{video.name}-features")

    clip = open_clip(video, base)
    print(describe(video, queries, clip.size, run.device))
    results: list[Result] = []
    tracking_seconds: dict[str, float] = {}
    for name, config in configs.items():
        result, tracking_seconds[name] = track_frozen(clip, config, run, queries, name)
        results.append(result)
    if truth is not None:
        results = score_results(results, truth, queries, video)
    facts = {
        "video": request.video,
        "points": len(queries),
        "seed": request.seed,
        "device": str(run.device),
        "settings": {name: as_dict(config) for name, config in configs.items()},
    }
    with run.bar("outputs", "file") as report:
        files = write_comparison(
            folder, video, queries, results, tracking_seconds, truth, base.outputs, facts, report
        )
    print("\n".join(comparison_table(results, tracking_seconds).console()))
    if truth is not None:
        print("scores in percent, scaled to 256x256, over all frames but each point's query frame")
    print(f"results in {folder}: {', '.join(sorted(files))}")
    return 0


def track_frozen(
    clip: Clip, config: Config, run: Run, queries: QueryPoints, name: str
) -> tuple[Result, float]:
    """The query points matched with frozen features alone, the same tracks as bench's ``frozen``.

    Returns:
        The result with the seconds of its features, and the seconds of tracking.
    """
    from t4g_tracker.fitted import fit_clip
    from t4g_tracker.results import Result
    from t4g_tracker.stage_log import StageLog

    run = replace(run, log=StageLog(peaks=True, device=run.device))  # of this extractor alone
    unadapted = replace(
        config,
        adaptation=replace(config.adaptation, steps=0),
        tracking=replace(config.tracking, path=False),  # without flow
    )
    fitted = fit_clip(clip, unadapted, run)
    _ = fitted.adapted  # computed here, apart from matching
    with run.log.stage("matching"), run.bar(name, "frame") as report:
        tracks = fitted.match(queries, progress=report)
    extracted = None if "features" in run.log.cached else run.log.spent("features")[0]
    return Result(name, tracks, seconds=extracted), run.log.spent("matching")[0]


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
    """Look whether every extractor's weights are there, before any work.

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
