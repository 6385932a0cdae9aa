"""Arguments of the commands that run over many clips."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from t4g_tracker.batch.machines import Machines
from t4g_tracker.choices import DatasetName, QueryMode, Resolution
from t4g_tracker.commands.arguments import (
    RunRequest,
    add_common_arguments,
    add_first_frames,
    check_first_frames,
)
from t4g_tracker.errors import ConfigError


@dataclass(frozen=True)
class BatchRequest(RunRequest):
    """What every command over many clips is told."""

    mode: QueryMode  # strided where nothing was said
    out: Path
    overlays: bool
    workers: int
    threads: int
    ray: str

    @property
    def machines(self) -> Machines:
        return Machines(self.workers, self.threads, self.ray)


@dataclass(frozen=True)
class BenchRequest(BatchRequest):
    """What the user asked ``t4g bench`` for."""

    data: Path | None
    dataset: DatasetName | None
    path: Path | None
    clips: list[str] | None
    resolution: Resolution | None
    first_frames: int
    configs: list[Path]
    vary: list[list[str]]


@dataclass(frozen=True)
class DavisRequest(BatchRequest):
    """What the user asked ``run_tracker.py --davis`` for."""

    davis: Path
    sequences: list[str] | None
    split: str
    grid: int | None
    queries: Path | None
    tapvid: Path | None
    foreground: bool


def parse_bench(argv: list[str] | None) -> BenchRequest:
    """Read the arguments of ``t4g bench``; exits with code 2 on wrong usage."""
    parser = argparse.ArgumentParser(
        prog="t4g bench",
        description="Measure chained flow, frozen features and adapted features on annotated clips. The same "
        "command goes on where it was interrupted.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="folder with JPEGImages/480p/<clip>/ and tracks/<clip>.npz")
    names = [name for name in get_args(DatasetName) if name != "folder"]
    what.add_argument(
        "--dataset",
        choices=names,
        help="published data set, with --path; or synthetic-val, made here",
    )
    parser.add_argument("--path", type=Path, help="the data set's pickle, folder of pickles, or BADJA folder")
    parser.add_argument("--clips", nargs="+", help="only these clips")
    parser.add_argument(
        "--resolution",
        choices=get_args(Resolution),
        help="frames are brought to this size before tracking (default: published sets 480p, others stored)",
    )
    add_first_frames(parser, "each clip")
    parser.add_argument(
        "--configs", type=Path, nargs="+", default=[], help="several YAML files, each measured in turn"
    )
    parser.add_argument(
        "--vary",
        type=_variations,
        action="append",
        default=[],
        metavar="STAGE.SETTING=A,B,...",
        help="measure each value in turn, e.g. adaptation.steps=500,1000,5000; given twice: all combinations",
    )
    _add_batch_arguments(parser, Path("outputs/bench"))
    arguments = parser.parse_args(argv)
    if arguments.mode and arguments.dataset == "badja":
        parser.error("--mode is TAP-Vid's and does not go with badja")
    request = BenchRequest(**_with_mode(arguments))
    if (request.dataset in (None, "synthetic-val")) != (request.path is None):
        parser.error("--path goes with --dataset, and not with --data or --dataset synthetic-val")
    if request.configs and request.vary:
        parser.error("--configs and --vary do not go together")
    check_first_frames(parser, request.first_frames)
    return request


def parse_davis(argv: list[str] | None) -> DavisRequest:
    """Read the arguments of ``run_tracker.py --davis``; exits with code 2 on wrong usage."""
    parser = argparse.ArgumentParser(
        prog="run_tracker.py --davis",
        description="Track every sequence of a DAVIS folder, results of each as for a single video. The same "
        "command goes on where it was interrupted. Points come from TAP-Vid's tracks where there are some, "
        "and accuracy is measured; else from a grid inside the mask of the first frame.",
    )
    parser.add_argument("--davis", type=Path, required=True, help="root of DAVIS 2017, at 480p")
    parser.add_argument("--sequences", nargs="+", help="only these")
    parser.add_argument(
        "--split", default="val", help="ImageSets/2017/<split>.txt, or a text file of names (default val)"
    )
    points = parser.add_mutually_exclusive_group()
    points.add_argument("--grid", type=int, metavar="N", help="N points across the mask of the first frame")
    points.add_argument(
        "--queries", type=Path, help="folder of query files, <sequence>.json or .csv, .npy, .npz"
    )
    points.add_argument("--tapvid", type=Path, help="TAP-Vid's tapvid_davis.pkl, for points and truth")
    parser.add_argument(
        "--foreground", action="store_true", help="half of the training pairs come from inside the masks"
    )
    _add_batch_arguments(parser, Path("outputs/davis"))
    arguments = parser.parse_args(argv)
    if arguments.grid is not None and arguments.grid < 1:
        parser.error(f"--grid must be at least 1, got {arguments.grid}")
    if arguments.mode and (arguments.grid or arguments.queries):
        parser.error("--mode chooses points of TAP-Vid's tracks; it does not go with --grid or --queries")
    return DavisRequest(**_with_mode(arguments))


def varied(variations: list[list[str]]) -> dict[str, list[str]]:
    """Every combination of varied settings: assignments by the name of the combination."""
    return {" ".join(chosen): list(chosen) for chosen in product(*variations)} if variations else {}


def _with_mode(arguments: argparse.Namespace) -> dict[str, Any]:
    """Arguments by name, the query mode settled."""
    return {**vars(arguments), "mode": arguments.mode or "strided"}


def _variations(text: str) -> list[str]:
    setting, equals, values = text.partition("=")
    parts = [value for value in re.split(r",(?![^\[]*\])", values) if value]  # not within [a, b]
    if not equals or not parts:
        raise argparse.ArgumentTypeError(f"write stage.setting=a,b,..., got {text}")
    return [f"{setting}={value}" for value in parts]


def _add_batch_arguments(parser: argparse.ArgumentParser, out: Path) -> None:
    parser.add_argument(
        "--mode", choices=("strided", "first"), help="query mode of TAP-Vid's tracks (default strided)"
    )
    parser.add_argument("--out", type=Path, default=out, help="folder for results (default %(default)s)")
    parser.add_argument(
        "--no-overlays", dest="overlays", action="store_false", help="draw no videos of the tracks"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="clips measured at once, each in its own process (default 0: as cores, GPUs and memory allow)",
    )
    parser.add_argument("--threads", type=int, default=1, help="processor cores for each clip (default 1)")
    parser.add_argument(
        "--ray",
        default="",
        metavar="ADDRESS",
        help="measure on a Ray cluster: its address, auto, or local (needs Ray: pip install -e '.[cluster]')",
    )
    add_common_arguments(parser)


def check_names(names: list[str]) -> None:
    """Refuse configurations that would share a name in the tables."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"--configs: {twice[0]} is the name of two files; rename one")
