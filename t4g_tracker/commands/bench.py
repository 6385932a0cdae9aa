"""``t4g bench``: trackers compared on annotated clips."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

from t4g_tracker.choices import DatasetName, Resolution
from t4g_tracker.commands.arguments import add_first_frames, check_first_frames, path_text
from t4g_tracker.commands.batch_arguments import BatchRequest, add_batch_arguments, with_mode
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser
from t4g_tracker.errors import ConfigError


@dataclass(frozen=True)
class BenchRequest(BatchRequest):
    """Arguments of ``t4g bench``."""

    data: Path | None
    dataset: DatasetName | None
    path: Path | None
    clips: list[str] | None
    resolution: Resolution | None
    first_frames: int
    configs: list[Path]
    vary: list[list[str]]
    diagnose: bool
    occlusion: bool


def main(argv: list[str] | None = None) -> int:
    """Run ``t4g bench`` and return the exit code, 1 if a clip failed."""
    return guarded(_bench_command, argv)


def parse_bench(argv: list[str] | None) -> BenchRequest:
    """Parse the arguments of ``t4g bench``; exits with code 2 on wrong usage."""
    parser = Parser(
        prog="t4g bench",
        description="Measure flow alone, frozen features and adapted features on annotated clips. The same "
        "command resumes where it was interrupted.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--data", type=path_text, help="folder with JPEGImages/480p/<clip>/ and tracks/<clip>.npz"
    )
    names = [name for name in get_args(DatasetName) if name != "folder"]
    what.add_argument(
        "--dataset",
        choices=names,
        help="published data set, with --path; or synthetic-val, made here",
    )
    parser.add_argument(
        "--path", type=path_text, help="the data set's pickle, folder of pickles, or BADJA folder"
    )
    parser.add_argument("--clips", nargs="+", help="only these clips")
    parser.add_argument(
        "--resolution",
        choices=get_args(Resolution),
        help="resize frames to this size before tracking (default: 480p for published sets, others stored)",
    )
    add_first_frames(parser, "each clip")
    parser.add_argument(
        "--configs", type=path_text, nargs="+", default=[], help="several YAML files, each measured in turn"
    )
    parser.add_argument(
        "--vary",
        type=_variations,
        action="append",
        default=[],
        metavar="STAGE.SETTING=A,B,...",
        help="measure each value in turn, e.g. adaptation.steps=500,1000,5000; repeated: all combinations",
    )
    parser.add_argument(
        "--diagnose",
        action="store_true",
        help="also show where to work: lost points and candidates for them, errors by time and of flow, "
        "pictures of the worst tracks",
    )
    parser.add_argument(
        "--occlusion",
        action="store_true",
        help="also show accuracy where points were hidden in the tables; results.csv has it always",
    )
    add_batch_arguments(parser, Path("outputs/bench"))
    arguments = parser.parse(argv)
    if arguments.mode and arguments.dataset == "badja":
        parser.error("--mode chooses points of TAP-Vid's tracks; it does not go with --dataset badja")
    if arguments.diagnose and arguments.dataset == "badja":
        parser.error("--diagnose needs the visibility of every frame; it does not go with --dataset badja")
    if arguments.occlusion and arguments.dataset == "badja":
        parser.error("--occlusion needs the visibility of every frame; it does not go with --dataset badja")
    request = BenchRequest(**with_mode(arguments))
    if (request.dataset in (None, "synthetic-val")) != (request.path is None):
        parser.error("--path goes with every --dataset but synthetic-val, and not with --data")
    if request.configs and request.vary:
        parser.error("--configs and --vary do not go together")
    check_first_frames(parser, request.first_frames)
    return request


def _bench_command(argv: list[str] | None) -> int:
    request = parse_bench(argv)
    from t4g_tracker.batch.html_report import Setup
    from t4g_tracker.commands.bench_job import BenchJob
    from t4g_tracker.commands.many_clips import check_run, run_job, with_changes
    from t4g_tracker.config import read_settings
    from t4g_tracker.datasets.annotated import View
    from t4g_tracker.datasets.choice import DatasetChoice
    from t4g_tracker.pipeline import Config
    from t4g_tracker.storage.cache import Cache

    base = read_settings(Config(), request.config, request.assignments)
    check_names([file.stem for file in request.configs])
    configs = {file.stem: read_settings(base, file, request.assignments) for file in request.configs}
    for name, assignments in varied(request.vary).items():
        configs[name] = read_settings(base, None, assignments)
    configs = configs or {request.config.stem if request.config else "default": base}
    check_run(request, configs)
    view = View(request.resolution or ("480p" if request.path else "stored"), request.first_frames)
    path = request.data or request.path or synthetic_val(request.cache / "synthetic-val")
    choice = DatasetChoice(request.dataset or "folder", path, request.mode, view, tuple(request.clips or ()))
    clips = choice.open()
    names = choice.names(clips)
    choice.check(clips, names)
    identity = {"what": "bench", "data": str(path), "protocol": choice.describe()}
    setup = Setup(
        title=with_changes(choice.describe(), request.assignments),
        dataset=choice.dataset,
        mode=request.mode,
        resolution=view.resolution,
        first_frames=view.first_frames,
        clips=len(names),
        all_clips=len(clips.names()),
    )
    job = BenchJob(
        configs=configs,
        cache=Cache.open(request.cache, request.fresh),
        seed=request.seed,
        out=request.out,
        overlays=request.overlays,
        choice=choice,
        diagnose=request.diagnose,
    )
    protocol = choice.protocol
    return run_job(
        request,
        job,
        names,
        protocol.measures,
        identity,
        setup,
        request.diagnose,
        protocol.further,
        request.occlusion,
    )


def synthetic_val(folder: Path) -> Path:
    """Find the project's own benchmark below ``folder``; generate it first if it is missing.

    Raises:
        OutputError: If it cannot be written.
        TrackerError: If it must be generated and scikit-image is not installed.
    """
    from t4g_tracker.synthetic.benchmark import make_val
    from t4g_tracker.synthetic.clips import CLIPS_VERSION
    from t4g_tracker.synthetic.settings import ValConfig

    config = ValConfig()
    folder = folder / f"v{CLIPS_VERSION}"
    if len(list((folder / "tracks").glob("[!.]*.npz"))) < config.clips:
        make_val(folder, config)
    return folder


def varied(variations: list[list[str]]) -> dict[str, list[str]]:
    """List every combination of varied settings: assignments by the name of the combination."""
    return {" ".join(chosen): list(chosen) for chosen in product(*variations)} if variations else {}


def _variations(text: str) -> list[str]:
    setting, equals, values = text.partition("=")
    parts = [value for value in re.split(r",(?![^\[]*\])", values) if value]  # not within [a, b]
    if not equals or not parts:
        raise argparse.ArgumentTypeError(f"write stage.setting=a,b,..., got {text}")
    return [f"{setting}={value}" for value in parts]


def check_names(names: list[str]) -> None:
    """Refuse configurations that would share a name in the tables."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"--configs: {repeated[0]} is the name of two files; rename one")
