"""The arguments of ``t4g track``, which is run_tracker.py, and the files that it writes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t4g_tracker.choices import QueryMode
from t4g_tracker.commands.arguments import (
    PointsRequest,
    RunRequest,
    add_common_arguments,
    add_point_arguments,
    check_points,
)
from t4g_tracker.commands.parser import Parser, path

if TYPE_CHECKING:
    from t4g_tracker.datatypes import QueryPoints, Tracks
    from t4g_tracker.fitted import Fitted
    from t4g_tracker.results import Result


@dataclass(frozen=True)
class TrackRequest(RunRequest, PointsRequest):
    """Arguments of ``t4g track``."""

    foreground: Path | None
    out: Path | None


def parse_track(argv: list[str] | None) -> TrackRequest:
    """Parse the arguments of ``run_tracker.py``; exits with code 2 on wrong usage."""
    parser = Parser(
        prog="t4g track" if Path(sys.argv[0]).stem in ("t4g", "__main__") else "run_tracker.py",
        description="Track points through a video, before and after their query frame. Fits a residual "
        "adapter to the video first; other points of the same video then take seconds.",
        epilog="More: --davis ROOT --help (a whole DAVIS folder), t4g bench --help (accuracy on annotated "
        "clips), t4g compare-features --help.",
    )
    add_point_arguments(parser)
    parser.add_argument(
        "--foreground",
        type=path,
        help="folder of one mask image per frame: half of the training pairs come from inside",
    )
    parser.add_argument("--out", type=path, help="folder for results (default outputs/<clip>)")
    add_common_arguments(parser)
    request = TrackRequest(**vars(parser.parse(argv)))
    check_points(parser, request, request.foreground)
    return request


def track_states(fitted: Fitted, queries: QueryPoints) -> list[Result]:
    """Track with every snapshot, if pictures of the progress are wanted, and with the finished tracker.

    Snapshots track by matching alone, so that they show the features and nothing else.
    """
    from t4g_tracker.results import Result

    config, run = fitted.config, fitted.run
    last = fitted.stages.adaptation.value.last_step
    steps = sorted(fitted.stages.adaptation.value.snapshots) if config.outputs.progress else []
    if not config.tracking.path and not steps:
        steps = [last]
    if config.tracking.path:
        fitted.stages.flow.ensure()  # here, so that tracking is timed alone
    results: list[Result] = []
    frames = fitted.clip.video.frame_count
    total = (len(steps) + config.tracking.path) * frames
    with run.log.stage("tracking"), run.bar("tracking", "frame") as report:

        def advance(done: int, _: int) -> None:
            report(len(results) * frames + done, total)

        for step in steps:
            label = f"step {step}" if step else "frozen features"
            results.append(Result(label, fitted.match(queries, step, advance), step=step))
        if config.tracking.path:
            finished = fitted.track(queries, advance)
            results.append(Result("finished tracker", finished, step=last))
    return results


def write_everything(
    fitted: Fitted,
    queries: QueryPoints,
    results: list[Result],
    truth: Tracks | None,
    folder: Path,
    arguments: dict[str, Any],
    mode: QueryMode = "strided",
) -> list[Result]:
    """Write every file of a run.

    Args:
        fitted: Video, settings and history.
        queries: N query points.
        results: From ``track_states``; the last is the result of the run.
        truth: True tracks of the same points, or None.
        folder: The output folder; must exist.
        arguments: The command's arguments, for the record.
        mode: Which frames count in measures.

    Returns:
        The results, with measures if the truth is known.
    """
    from t4g_tracker.config import as_dict
    from t4g_tracker.results import score_results
    from t4g_tracker.run_files import write_results, write_run

    video, config, run, adaptation = (
        fitted.clip.video,
        fitted.config,
        fitted.run,
        fitted.stages.adaptation.value,
    )
    if truth is not None:
        results = score_results(results, truth, queries, video, mode)
    with run.log.stage("outputs"), run.bar("outputs", "file") as report:
        write_results(folder, video, queries, results, adaptation.history, truth, config.outputs, report)
    write_run(
        folder,
        arguments=arguments,
        settings=as_dict(config),
        stages=run.log.stages,
        results=results,
        seed=run.seed,
        device=run.device,
        seconds_per_step=adaptation.seconds_per_step,
    )
    return results
