"""``t4g compare-features``: compare the frozen features of several extractors on a video, side by side."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from t4g_tracker.choices import Extractor
from t4g_tracker.commands.arguments import (
    PointsRequest,
    RunRequest,
    add_common_arguments,
    add_out,
    add_point_arguments,
    check_points,
)
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser
from t4g_tracker.commands.printing import say
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features.settings import GROUPS, FeaturesConfig

if TYPE_CHECKING:
    from t4g_tracker.commands.points import Inputs
    from t4g_tracker.datatypes import QueryPoints
    from t4g_tracker.pipeline import Clip, Config
    from t4g_tracker.results import Result
    from t4g_tracker.stage_cache import Run

# The group of settings that names an extractor's model, for extractors whose model can be chosen.
MODEL_OF = {name: group for name, group in GROUPS.items() if name not in ("patch", "track4gen-mini", "fused")}


@dataclass(frozen=True)
class Choice:
    """One extractor to compare."""

    name: Extractor
    model: str = ""  # folder or hub name; empty: that of the settings


@dataclass(frozen=True)
class CompareRequest(RunRequest, PointsRequest):
    """Arguments of ``t4g compare-features``."""

    features: list[Choice]
    raw: bool
    out: Path | None


def main(argv: list[str] | None = None) -> int:
    """Run ``t4g compare-features`` and return the exit code."""
    return guarded(_compare_command, argv)


def parse_compare(argv: list[str] | None) -> CompareRequest:
    """Parse the arguments of ``t4g compare-features``; exits with code 2 on wrong usage."""
    parser = Parser(
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
    parser.add_argument(
        "--raw",
        action="store_true",
        help="match features as their extractor gives them: on its own grid, without subtracting the video's "
        "mean feature and without sub-pixel refinement",
    )
    add_out(parser, "outputs/<clip>-features/<points>")
    add_common_arguments(parser)
    request = CompareRequest(**vars(parser.parse(argv)))
    check_points(parser, request)
    names = [choice.name for choice in request.features]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        parser.error(f"argument --features: {repeated[0]} is named twice; name each extractor once")
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
    """Read, compare, write."""
    request = parse_compare(argv)
    from t4g_tracker import Config, read_settings
    from t4g_tracker.commands.comparison import COMPARISON, closing_lines, write_comparison
    from t4g_tracker.commands.points import read_points
    from t4g_tracker.commands.runs import open_run
    from t4g_tracker.hardware import pick_device
    from t4g_tracker.memory import long_arrays
    from t4g_tracker.outputs.run_record import Call
    from t4g_tracker.pipeline import open_clip

    # Read, and check everything before any long work.
    call = Call(["t4g", "compare-features", *(sys.argv[1:] if argv is None else argv)], vars(request))
    base = read_settings(Config(), request.config, request.assignments)
    chosen = choose_features(base.features, request.features, request.raw)
    configs = {name: replace(base, features=features) for name, features in chosen.items()}
    pick_device(request.device)
    inputs = read_points(request, base, long_arrays(base.memory, request.cache))
    check_choices(chosen)
    clip = open_clip(inputs.video, base, arrays=inputs.arrays)
    with open_run(request, clip, inputs.queries, call, COMPARISON) as (run, destination):
        # Compare: track with the features of each extractor.
        results, tracking_seconds = compare(clip, configs, run, inputs, request.raw)

        # Write tables and pictures.
        files = write_comparison(inputs, results, tracking_seconds, configs, run, destination, request.raw)
        say("\n".join(closing_lines(destination.folder, results, tracking_seconds, files)))
    return 0


def compare(
    clip: Clip, configs: dict[str, Config], run: Run, inputs: Inputs, raw: bool
) -> tuple[list[Result], dict[str, float]]:
    """Track the same points with each of several settings, by their names, and score if the truth is known.

    Args:
        clip: The video.
        configs: The settings by their names.
        run: Device, seed and cache.
        inputs: Query points, and true tracks if they are known.
        raw: Whether to match features as their extractor gives them.

    Returns:
        The results in the same order, and the seconds of tracking by their names.
    """
    from t4g_tracker.results import score_results

    results: list[Result] = []
    tracking_seconds: dict[str, float] = {}
    for name, config in configs.items():
        result, tracking_seconds[name] = track_frozen(clip, config, run, inputs.queries, name, raw)
        results.append(result)
    if inputs.truth is not None:
        results = score_results(results, inputs.truth, inputs.queries, inputs.video)
    return results, tracking_seconds


def track_frozen(
    clip: Clip, config: Config, run: Run, queries: QueryPoints, name: str, raw: bool
) -> tuple[Result, float]:
    """Track query points by matching frozen features alone, as bench's ``frozen`` does, or raw ones.

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
        tracking=replace(config.tracking, motion=False),  # without flow
    )
    fitted = fit_clip(clip, unadapted, run)
    _ = fitted.stages.features.value if raw else fitted.adapted  # here, so that matching is timed alone
    match = fitted.match_raw if raw else fitted.match
    with run.log.stage("matching"), run.bar(name, "frame") as report:
        tracks = match(queries, progress=report)
    extracted = None if "features" in run.log.cached else run.log.spent("features")[0]
    return Result(name, tracks, seconds=extracted), run.log.spent("matching")[0]


def choose_features(
    base: FeaturesConfig, choices: list[Choice], raw: bool = False
) -> dict[str, FeaturesConfig]:
    """Make the settings of each extractor to compare, by its name.

    Args:
        base: The settings that all of them share.
        choices: The extractors.
        raw: Whether features stay as they are: fused ones are then not centred either.

    Raises:
        ConfigError: If two extractors would read the same folder.
    """
    shared = [
        choice.name for choice in choices if MODEL_OF.get(choice.name) == "diffusion" and not choice.model
    ]
    if base.diffusion.model and len(shared) > 1:
        raise ConfigError(
            f"--features: {' and '.join(shared)} would both read features.diffusion.model="
            f"{base.diffusion.model}; name a folder for each: {' '.join(f'{name}=FOLDER' for name in shared)}"
        )
    if raw:
        base = replace(base, fused=replace(base.fused, centre=False))
    return {choice.name: _chosen(base, choice) for choice in choices}


def _chosen(base: FeaturesConfig, choice: Choice) -> FeaturesConfig:
    changes: dict[str, Any] = {"extractor": choice.name}
    if "track4gen-mini" in replace(base, extractor=choice.name).singles:
        # it is bundled; the model that the settings name is for the others
        changes["diffusion"] = replace(base.diffusion, model="")
    if choice.model:
        group = MODEL_OF[choice.name]
        changes[group] = replace(getattr(base, group), model=choice.model)
    return replace(base, **changes)


def check_choices(chosen: dict[str, FeaturesConfig]) -> None:
    """Check, before any work, that every extractor's weights are there.

    Raises:
        WeightsError: Names the first extractor whose weights are missing, and the remedy.
    """
    from t4g_tracker.features.extractor import check_features

    for name, config in chosen.items():
        try:
            check_features(config)
        except WeightsError as error:
            here = f"; here that is --features {name}=FOLDER" if name in MODEL_OF else ""
            raise WeightsError(f"--features {name}: {error}{here}") from error
