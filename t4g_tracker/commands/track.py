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
    add_out,
    add_point_arguments,
    check_points,
    path_text,
)
from t4g_tracker.commands.parser import Parser

if TYPE_CHECKING:
    from t4g_tracker.commands.points import Inputs
    from t4g_tracker.datatypes import QueryPoints
    from t4g_tracker.fitted import Fitted
    from t4g_tracker.outputs.run_record import Call, Destination
    from t4g_tracker.results import Result


@dataclass(frozen=True)
class TrackRequest(RunRequest, PointsRequest):
    """Arguments of ``t4g track``."""

    foreground: Path | None
    out: Path | None


def parse_track(argv: list[str] | None) -> TrackRequest:
    """Parse the arguments of ``run_tracker.py``; exits with code 2 on wrong usage."""
    parser = Parser(
        prog=_program(),
        description="Track points through a video, before and after their query frame. Fits a residual "
        "adapter to the video first; other points of the same video then take seconds.",
        epilog="More: --davis ROOT --help (a whole DAVIS folder), t4g bench --help (accuracy on annotated "
        "clips), t4g compare-features --help.",
    )
    add_point_arguments(parser)
    parser.add_argument(
        "--foreground",
        type=path_text,
        help="folder of one mask image per frame: half of the training pairs come from inside",
    )
    add_out(parser, "outputs/<clip>/<points>")
    add_common_arguments(parser)
    request = TrackRequest(**vars(parser.parse(argv)))
    check_points(parser, request, request.foreground)
    return request


def _program() -> str:
    return "t4g track" if Path(sys.argv[0]).stem in ("t4g", "__main__") else "run_tracker.py"


def call_of(argv: list[str] | None, request: TrackRequest) -> Call:
    """The command as typed, or nearly so, and the time: now."""
    from t4g_tracker.outputs.run_record import Call

    program = _program().split()
    words = [*(["python"] if len(program) == 1 else []), *program]
    return Call([*words, *(sys.argv[1:] if argv is None else argv)], vars(request))


def track_states(fitted: Fitted, queries: QueryPoints) -> list[Result]:
    """Track with every snapshot, if pictures of the progress are wanted, and with the finished tracker.

    Snapshots track by matching alone, so that they show the features and nothing else.
    """
    from t4g_tracker.results import Result

    config, run = fitted.config, fitted.run
    adaptation = fitted.adaptation
    last = adaptation.last_step if adaptation else 0
    steps = (sorted(adaptation.snapshots) if adaptation else [0]) if config.outputs.progress else []
    if not config.tracking.motion and not steps:
        steps = [last]
    if config.tracking.motion:
        fitted.stages.flow.ensure()  # here, so that tracking is timed alone
    results: list[Result] = []
    frames = fitted.clip.video.frame_count
    total = (len(steps) + config.tracking.motion) * frames
    with run.log.stage("tracking"), run.bar("tracking", "frame") as report:

        def advance(done: int, _: int) -> None:
            report(len(results) * frames + done, total)

        for step in steps:
            label = f"step {step}" if step else "frozen features"
            results.append(Result(label, fitted.match(queries, step, advance), step=step))
        if config.tracking.motion:
            finished = fitted.track(queries, advance)
            results.append(Result("finished tracker", finished, step=last))
    return results


def write_everything(
    fitted: Fitted,
    inputs: Inputs,
    results: list[Result],
    destination: Destination,
    mode: QueryMode = "strided",
) -> tuple[list[Result], list[str]]:
    """Write every file of a run.

    Args:
        fitted: Settings and history.
        inputs: Video, query points and true tracks.
        results: From ``track_states``; the last is the result of the run.
        destination: The output folder, and what the record says of the run's origin.
        mode: Which frames count in measures.

    Returns:
        The results, with measures if the truth is known, and the names of the files.
    """
    from t4g_tracker.errors import warnings_so_far
    from t4g_tracker.outputs.result_folder import finish_record, write_results
    from t4g_tracker.outputs.run_files import RUN, picture_writers, track_writers
    from t4g_tracker.outputs.run_record import machine_facts
    from t4g_tracker.results import score_results
    from t4g_tracker.storage.files import plain_values

    video, queries, truth = inputs.video, inputs.queries, inputs.truth
    config, run, folder = fitted.config, fitted.run, destination.folder
    adaptation = fitted.adaptation
    if truth is not None:
        results = score_results(results, truth, queries, video, mode)

    def record() -> dict[str, Any]:
        return {
            **destination.call.facts(),
            **destination.facts,
            "warnings": warnings_so_far(),
            "settings": plain_values(config),
            **machine_facts(run.seed, run.device),
            "stages": run.log.stages,
            "median_seconds_per_step": round(adaptation.seconds_per_step, 4) if adaptation else 0.0,
            "held_out_2px": adaptation.found if adaptation else None,
            "trust": fitted.trust,
            "scores": {result.name: result.measures for result in results if result.measures},
        }

    tracks = track_writers(video, queries, results[-1].own_tracks)
    pictures = picture_writers(
        video, queries, results, adaptation.history if adaptation else [], truth, config.outputs
    )
    with run.log.stage("outputs"), run.bar("outputs", "file") as report:
        files = write_results(folder, RUN, record(), tracks, pictures, report)
    finish_record(folder, RUN, files, record())
    return results, files
