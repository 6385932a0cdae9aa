"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from t4g_tracker.commands.parser import Parser, path
from t4g_tracker.files import default_cache_folder


@dataclass(frozen=True)
class PointsRequest:
    """A video and its points to track."""

    video: Path
    queries: Path | None
    grid: int | None
    grid_frame: int
    mask: Path | None
    truth: Path | None
    first_frames: int  # 0: all
    frames: tuple[int, int] | None  # first and last frame of the part to read, as the user counts

    @property
    def skipped_frames(self) -> int:
        """How many frames of the video lie before the part to read."""
        return self.frames[0] if self.frames else 0


@dataclass(frozen=True)
class RunRequest:
    """Arguments of every command that runs the tracker: settings, machine, cache."""

    cache: Path
    config: Path | None
    assignments: list[str]
    device: str
    seed: int
    fresh: bool
    quiet: bool


def seed_number(text: str) -> int:
    """Parse a seed for torch."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^63 - 1, got {text}")
    return int(text)


def add_settings_arguments(parser: Parser, example: str) -> None:
    """Add the arguments of every command with settings; ``example`` shows a use of ``--set``."""
    parser.add_argument("--config", type=path, help="YAML file of settings")
    add_assignments(parser, "STAGE.SETTING=VALUE", f"change single settings, e.g. {example}")
    add_device(parser)
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="the same seed gives the same result (default 0)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_assignments(parser: Parser, metavar: str, what: str) -> None:
    """Add ``--set``, stored as ``assignments``."""
    parser.add_argument(
        "--set", dest="assignments", action="extend", nargs="+", default=[], metavar=metavar, help=what
    )


def add_device(parser: Parser) -> None:
    """Add ``--device``, for ``pick_device``."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")


def add_first_frames(parser: Parser, what: str) -> None:
    """Add ``--first-frames``, 0 for all; ``check_first_frames`` checks it."""
    help_text = f"only the first N frames of {what}"
    parser.add_argument("--first-frames", type=int, default=0, metavar="N", help=help_text)


def check_first_frames(parser: Parser, count: int) -> None:
    """Exit with code 2 if ``count`` frames are too few for a track."""
    if count < 0 or count == 1:
        parser.error("--first-frames must be at least 2")


def frame_range(text: str) -> tuple[int, int]:
    """Parse ``A-B``, two frame numbers with at least two frames from the first to the last."""
    found = re.fullmatch(r"(-?\d+)-(-?\d+)", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"must be the first and the last frame, such as 30-89, got {text}")
    first, last = int(found[1]), int(found[2])
    if last <= first:
        raise argparse.ArgumentTypeError(f"must hold at least 2 frames, the lower number first, got {text}")
    return first, last


def add_common_arguments(parser: Parser) -> None:
    """Add the arguments of every command that runs the tracker."""
    add_settings_arguments(parser, "adaptation.steps=2000 (configs/default.yaml lists all)")
    parser.add_argument(
        "--cache",
        type=path,
        default=default_cache_folder(),
        help="folder of cached features, flow and adapted weights (default: %(default)s)",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="ignore cached results and compute everything again"
    )


def add_point_arguments(parser: Parser) -> None:
    """Add the arguments that choose a video, its points to track, and their true tracks."""
    parser.add_argument("--video", type=path, required=True, help="video file, or folder of jpg/png frames")
    add_first_frames(parser, "it")
    parser.add_argument(
        "--frames",
        type=frame_range,
        metavar="A-B",
        help="only frame A to frame B of it, B included; frames keep their numbers",
    )
    points = parser.add_mutually_exclusive_group()
    points.add_argument("--queries", type=path, help="query points: .json, .csv, .npy or .npz")
    points.add_argument(
        "--grid",
        type=int,
        metavar="N",
        help="instead: a square grid, N points in a row",
    )
    parser.add_argument(
        "--grid-frame", type=int, default=0, metavar="F", help="frame of the grid (default 0)"
    )
    parser.add_argument("--mask", type=path, help="image; the grid lies inside its non-zero pixels")
    parser.add_argument(
        "--gt",
        dest="truth",
        type=path,
        help="tracks.npz with the true tracks of the same query points, to measure accuracy",
    )


def check_points(parser: Parser, request: PointsRequest) -> None:
    """Exit with code 2 if a request gives no points to track, or gives them twice."""
    check_first_frames(parser, request.first_frames)
    if request.first_frames and request.frames:
        parser.error("--first-frames and --frames do not go together; give one of them")
    if request.queries is None and request.grid is None:
        if request.mask is None:
            parser.error("no points to track; give --queries FILE or --grid N")
        parser.error("--mask needs --grid N, the number of points across the masked part")
    if request.mask is not None and request.grid is None:
        parser.error("--mask goes with --grid, not with --queries")
