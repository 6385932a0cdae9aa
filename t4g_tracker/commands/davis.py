"""``run_tracker.py --davis``: track every sequence of a DAVIS folder, each like a single video."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from t4g_tracker.commands.arguments import add_mask_object, path_text
from t4g_tracker.commands.batch_arguments import BatchRequest, add_batch_arguments, with_mode
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser, whole

if TYPE_CHECKING:
    from t4g_tracker.commands.davis_job import DavisJob
    from t4g_tracker.datasets.davis_folder import DavisFolder
    from t4g_tracker.inputs.mask_objects import Name
    from t4g_tracker.pipeline import Config


@dataclass(frozen=True)
class DavisRequest(BatchRequest):
    """Arguments of ``run_tracker.py --davis``."""

    davis: Path
    sequences: list[str] | None
    split: str
    grid: int | None
    queries: Path | None
    tapvid: Path | None
    foreground: bool
    mask_object: Name | None


def main(argv: list[str] | None = None) -> int:
    """Run ``run_tracker.py --davis`` and return the exit code, 1 if a sequence failed."""
    return guarded(_davis_command, argv)


def parse_davis(argv: list[str] | None) -> DavisRequest:
    """Parse the arguments of ``run_tracker.py --davis``; exits with code 2 on wrong usage."""
    parser = Parser(
        prog="run_tracker.py --davis",
        description="Track every sequence of a DAVIS folder, each like a single video. The same command "
        "resumes where it was interrupted. Points come from TAP-Vid's tracks if the folder has them, and "
        "accuracy is measured; otherwise from a grid inside the mask of the first frame.",
    )
    parser.add_argument("--davis", type=path_text, required=True, help="root of DAVIS 2017, at 480p")
    parser.add_argument("--sequences", nargs="+", help="only these")
    parser.add_argument(
        "--split", default="val", help="ImageSets/2017/<split>.txt, or a text file of names (default val)"
    )
    points = parser.add_mutually_exclusive_group()
    points.add_argument(
        "--grid", type=whole(1, 1000), metavar="N", help="N points across the mask of the first frame"
    )
    points.add_argument(
        "--queries", type=path_text, help="folder of query files, <sequence>.json or .csv, .npy, .npz"
    )
    points.add_argument("--tapvid", type=path_text, help="TAP-Vid's tapvid_davis.pkl, for points and truth")
    parser.add_argument(
        "--foreground", action="store_true", help="half of the training pairs come from inside the masks"
    )
    add_mask_object(parser)
    add_batch_arguments(parser, Path("outputs/davis"))
    arguments = parser.parse(argv)
    if arguments.mode and (arguments.grid or arguments.queries):
        parser.error("--mode chooses points of TAP-Vid's tracks; it does not go with --grid or --queries")
    return DavisRequest(**with_mode(arguments))


def _davis_command(argv: list[str] | None) -> int:
    request = parse_davis(argv)
    from t4g_tracker.batch.html_report import Setup
    from t4g_tracker.commands.many_clips import check_run, run_job, with_changes
    from t4g_tracker.config import read_settings
    from t4g_tracker.datasets.davis_folder import DavisFolder
    from t4g_tracker.datasets.protocols import PointProtocol
    from t4g_tracker.pipeline import Config

    config = read_settings(Config(), request.config, request.assignments)
    config = replace(config, outputs=replace(config.outputs, overlay=request.overlays))
    check_run(request, {"tracked": config})
    folder = DavisFolder(request.davis, request.tapvid)
    names = folder.sequences(request.split, request.sequences)
    annotated = request.grid is None and request.queries is None and folder.has_annotations()
    _check_points(request, folder, names, annotated)
    points = PointProtocol(request.mode).describe() if annotated else "points given"
    identity = {
        "what": "davis",
        "data": str(request.davis),
        "points": points,
        "grid": request.grid,
        "queries": str(request.queries),
        "tapvid": str(request.tapvid),
        "foreground": request.foreground,
        "mask_object": str(request.mask_object),
    }
    setup = Setup(
        title=with_changes(f"DAVIS, {points}, 480p, all frames", request.assignments),
        dataset="tapvid-davis" if annotated else "davis",
        mode=request.mode,
        resolution="480p",
        first_frames=0,
        clips=len(names),
        all_clips=len(names),
    )
    measures = PointProtocol.measures if annotated else ()
    typed = ["run_tracker.py", *(sys.argv[1:] if argv is None else argv)]
    job = _job(request, config, folder, annotated, ("python", *typed))
    return run_job(request, job, names, measures, identity, setup)


def _job(
    request: DavisRequest, config: Config, folder: DavisFolder, annotated: bool, command: tuple[str, ...]
) -> DavisJob:
    """The work on each sequence, for the workers."""
    from t4g_tracker.commands.davis_job import DavisJob
    from t4g_tracker.storage.cache import Cache

    return DavisJob(
        configs={"tracked": config},
        cache=Cache.open(request.cache, request.fresh),
        seed=request.seed,
        out=request.out,
        overlays=request.overlays,
        folder=folder,
        mode=request.mode,
        grid=request.grid,
        queries=request.queries,
        annotated=annotated,
        foreground=request.foreground,
        mask_object=request.mask_object,
        command=command,
    )


def _check_points(request: DavisRequest, folder: DavisFolder, names: list[str], annotated: bool) -> None:
    """Check, before any work, that every sequence has its points, and masks if they are needed."""
    from t4g_tracker.commands.davis_job import query_file
    from t4g_tracker.errors import QueryError

    if request.mask_object is not None and not request.foreground and (annotated or request.queries):
        raise QueryError("--mask-object: no masks are used here; give --grid or --foreground")
    if request.foreground:
        folder.check_masks(names)
    if annotated:
        folder.check_annotations(names)
        return
    for name in names:
        if request.queries is not None:
            query_file(request.queries, name)
        else:
            folder.first_mask(name)
