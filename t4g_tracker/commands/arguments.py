"""The track command's arguments, and what every command does about errors and Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from t4g_tracker.cache import default_cache_folder
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import QueryError, TrackerError
from t4g_tracker.queries import grid_queries, read_mask, read_queries
from t4g_tracker.track_files import read_tracks_npz

Settings = TypeVar("Settings")

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")  # where Linux can give them


@dataclass(frozen=True)
class PointsRequest:
    """A video and the points in it that a command is to follow."""

    video: Path
    queries: Path | None
    grid: int | None
    grid_frame: int
    mask: Path | None
    truth: Path | None
    first_frames: int  # 0: all


@dataclass(frozen=True)
class RunRequest:
    """What every command that runs the tracker is told: settings, machine, what is kept."""

    cache: Path
    config: Path | None
    assignments: list[str]
    device: str
    seed: int
    fresh: bool
    quiet: bool


@dataclass(frozen=True)
class TrackRequest(RunRequest, PointsRequest):
    """What the user asked ``t4g track`` for."""

    foreground: Path | None
    out: Path | None


def seed_number(text: str) -> int:
    """A seed that torch takes."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^63 - 1, got {text}")
    return int(text)


def add_settings_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Arguments that every command with settings takes; ``example`` is one for ``--set``."""
    parser.add_argument("--config", type=Path, help="YAML file of settings")
    add_assignments(parser, "STAGE.SETTING=VALUE", f"change single settings, e.g. {example}")
    add_device(parser)
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="the same seed gives the same result (default 0)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_assignments(parser: argparse.ArgumentParser, metavar: str, what: str) -> None:
    """``--set``, kept as ``assignments``."""
    parser.add_argument(
        "--set", dest="assignments", action="extend", nargs="+", default=[], metavar=metavar, help=what
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``, for ``pick_device``."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")


def add_first_frames(parser: argparse.ArgumentParser, what: str) -> None:
    """``--first-frames``, 0 for all; goes with ``check_first_frames``."""
    help_text = f"only the first N frames of {what}"
    parser.add_argument("--first-frames", type=int, default=0, metavar="N", help=help_text)


def check_first_frames(parser: argparse.ArgumentParser, count: int) -> None:
    """Exit with code 2 where so few frames give no track."""
    if count < 0 or count == 1:
        parser.error("--first-frames must be at least 2")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every command which runs the tracker takes."""
    add_settings_arguments(parser, "adaptation.steps=2000 (configs/default.yaml lists all)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_cache_folder(),
        help="where features, flow and adapted weights are kept between runs (default: %(default)s)",
    )
    parser.add_argument("--fresh", action="store_true", help="compute everything anew, ignoring kept results")


def add_point_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which points of which video are followed, and their true tracks."""
    parser.add_argument("--video", type=Path, required=True, help="video file, or folder of jpg/png frames")
    add_first_frames(parser, "it")
    points = parser.add_mutually_exclusive_group()
    points.add_argument("--queries", type=Path, help="query points: .json, .csv, .npy or .npz")
    points.add_argument(
        "--grid",
        type=int,
        metavar="N",
        help="instead: a square grid, N points in a row",
    )
    parser.add_argument(
        "--grid-frame", type=int, default=0, metavar="F", help="frame of the grid (default 0)"
    )
    parser.add_argument("--mask", type=Path, help="image; the grid is laid inside its non-zero pixels")
    parser.add_argument(
        "--gt",
        dest="truth",
        type=Path,
        help="tracks.npz with the true tracks of the same query points: accuracy is measured",
    )


def check_points(parser: argparse.ArgumentParser, request: PointsRequest) -> None:
    """Exit with code 2 where a request does not say which points to follow, or says it twice."""
    check_first_frames(parser, request.first_frames)
    if request.queries is None and request.grid is None:
        if request.mask is None:
            parser.error("say which points to follow: --queries FILE, or --grid N")
        parser.error("--mask wants --grid N as well: how many points across the masked part")
    if request.mask is not None and request.grid is None:
        parser.error("--mask goes with --grid, not with --queries")


def parse_track(argv: list[str] | None) -> TrackRequest:
    """Read the arguments of ``run_tracker.py``; exits with code 2 on wrong usage."""
    parser = argparse.ArgumentParser(
        prog="t4g track" if Path(sys.argv[0]).stem == "t4g" else "run_tracker.py",
        description="Track points through a video, before and after their query frame. Fits a residual "
        "adapter to the video first; asking again about the same video answers in seconds.",
        epilog="More: --davis ROOT --help (a whole DAVIS folder), t4g bench --help (accuracy on annotated "
        "clips), t4g compare-features --help.",
    )
    add_point_arguments(parser)
    parser.add_argument(
        "--foreground",
        type=Path,
        help="folder of one mask image per frame: half of the training pairs come from inside",
    )
    parser.add_argument("--out", type=Path, help="folder for results (default outputs/<clip>)")
    add_common_arguments(parser)
    request = TrackRequest(**vars(parser.parse_args(argv)))
    check_points(parser, request)
    return request


def request_queries(request: PointsRequest, video: Video) -> QueryPoints:
    """The query points a request asks for, from a file or as a grid."""
    if request.queries is not None:
        return read_queries(request.queries, video)
    assert request.grid is not None
    mask = None if request.mask is None else read_mask(request.mask, video)
    return grid_queries(video, request.grid, request.grid_frame, mask)


def request_truth(request: PointsRequest, video: Video, queries: QueryPoints) -> Tracks | None:
    """The true tracks a request gives, checked to be of the same points and video.

    Raises:
        QueryError: If they are not.
    """
    if request.truth is None:
        return None
    truth, asked, size, _ = read_tracks_npz(request.truth)
    if request.first_frames:
        truth = truth.first(request.first_frames)
    if size != video.size or truth.xy.shape[1] != video.frame_count:
        raise QueryError(
            f"{request.truth}: true tracks are of {truth.xy.shape[1]} frames of {size[1]}x{size[0]}, but "
            f"{video.source} has {video.frame_count} of {video.size[1]}x{video.size[0]}; give the clip's own"
        )
    same = len(asked) == len(queries) and bool(
        ((asked.frame == queries.frame) & ((asked.xy - queries.xy).norm(dim=1) < 0.5)).all()
    )
    if not same:
        raise QueryError(
            f"{request.truth}: its query points are not those asked for, in the same order; "
            "give this file itself as --queries, or drop --gt"
        )
    return truth


def guarded(command: Callable[[list[str] | None], int], argv: list[str] | None) -> int:
    """Run a command; a bad input becomes one line on standard error and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for noisy in ("httpx", "huggingface_hub", "diffusers", "transformers", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    _ask_for_large_pages()
    arguments = sys.argv if argv is None else argv
    try:
        return command(argv)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as interrupt:
        again = "the same command, without --fresh," if "--fresh" in arguments else "the same command"
        print(f"\n{str(interrupt) or 'interrupted'}; {again} goes on from what is done", file=sys.stderr)
        return EXIT_INTERRUPTED


def _ask_for_large_pages() -> None:
    """Have PyTorch ask Linux for pages of 2 MB: to get 4 KB ones costs more time than many an operation.

    PyTorch looks at its first allocation, in worker processes too; what the user has set stays.

    Source: PyTorch pull request 107697.
    """
    if LARGE_PAGES.exists():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag that a loop asks for between steps; a second one interrupts."""
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: signals go elsewhere
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
