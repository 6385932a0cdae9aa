"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t4g_tracker.commands.parser import Parser, whole
from t4g_tracker.storage.files import default_cache_folder

if TYPE_CHECKING:
    from t4g_tracker.inputs.mask_objects import Name


@dataclass(frozen=True)
class PointsRequest:
    """A video and its points to track."""

    video: Path
    queries: Path | None
    grid: int | None
    grid_frame: int | None  # None: the first; counted from start_frame
    mask: Path | None
    mask_object: Name | None  # None: all objects of the mask
    truth: Path | None
    first_frames: int  # 0: all
    frames: tuple[int, int] | None  # first and last frame of the part to read, as the user counts
    start_frame: int  # the number that the user gives to the first frame of the video

    @property
    def skipped_frames(self) -> int:
        """How many frames of the video lie before the part to read."""
        return self.frames[0] - self.start_frame if self.frames else 0


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


seed_number = whole(0, 2**63 - 1)  # for torch


def path_text(text: str) -> Path:
    """Parse a path; an empty text, as of a variable that is not set, would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a file or folder, . for the current one")
    return Path(text)


def add_out(parser: Parser, default: str) -> None:
    """Add ``--out``, None for the default, which is named in the help."""
    parser.add_argument("--out", type=path_text, help=f"folder for results (default {default})")


def _object_name(text: str) -> Name:
    from t4g_tracker.inputs.mask_objects import parsed_name

    try:
        return parsed_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_mask_object(parser: Parser) -> None:
    """Add ``--mask-object``, stored as ``mask_object``."""
    parser.add_argument(
        "--mask-object",
        type=_object_name,
        metavar="N or R,G,B",
        help="one object of masks with several, by palette index, grey value or colour (default all)",
    )


def default_settings() -> Any:
    """The settings of every command that runs the tracker, with their defaults."""
    from t4g_tracker.pipeline import Config

    return Config()


def add_settings_arguments(parser: Parser, example: str, settings: Callable[[], Any]) -> None:
    """Add the arguments of every command with settings.

    Args:
        parser: Of the command.
        example: A use of ``--set``.
        settings: Makes the command's settings with their defaults; called only when they are printed.
    """
    parser.settings = settings
    parser.add_argument(
        "--config",
        type=path_text,
        help="YAML file of settings, or default, fast, short, paper or dino-tracker",
    )
    add_assignments(parser, "STAGE.SETTING=VALUE", f"change single settings, e.g. {example}")
    parser.add_argument(
        "--print-config",
        action="store_true",
        default=argparse.SUPPRESS,  # such a call ends in the parser
        help="print the settings of --config and --set as a YAML file for --config, and exit",
    )
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
    help_text = f"only the first N frames of {what}; 0 for all (default)"
    parser.add_argument("--first-frames", type=whole(0, 10**9), default=0, metavar="N", help=help_text)


def check_first_frames(parser: Parser, count: int) -> None:
    """Exit with code 2 if ``count`` frames are too few for a track."""
    if count == 1:
        parser.error("--first-frames must be at least 2, or 0 for all")


def frame_number(text: str) -> int:
    """Parse the number of a frame, which may be negative."""
    if not re.fullmatch(r"-?\d{1,9}", text.strip(), re.ASCII):
        raise argparse.ArgumentTypeError(f"must be a whole number of at most 9 digits, got {text}")
    return int(text)


def frame_range(text: str) -> tuple[int, int]:
    """Parse ``A-B``, two frame numbers with at least two frames from the first to the last."""
    found = re.fullmatch(r"(-?[0-9]{1,9})-(-?[0-9]{1,9})", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"must be the first and the last frame, such as 30-89, got {text}")
    first, last = int(found[1]), int(found[2])
    if last <= first:
        raise argparse.ArgumentTypeError(f"must hold at least 2 frames, the lower number first, got {text}")
    return first, last


def add_common_arguments(parser: Parser) -> None:
    """Add the arguments of every command that runs the tracker."""
    add_settings_arguments(parser, "adaptation.steps=2000 (configs/default.yaml lists all)", default_settings)
    add_cache(parser)
    parser.add_argument(
        "--fresh", action="store_true", help="ignore cached results and compute everything again"
    )


def add_cache(parser: Parser) -> None:
    """Add ``--cache``."""
    parser.add_argument(
        "--cache",
        type=_cache_folder,
        default="",  # argparse passes it to the type only where --cache is not given
        help="folder of cached features, flow and adapted weights (default: $T4G_CACHE, else t4g-tracker in "
        "$XDG_CACHE_HOME or ~/.cache)",
    )
    parser.add_argument(
        "--max-memory",
        dest="assignments",
        action="append",
        type=_most_memory,
        metavar="GB",
        help="memory that the run may take, as memory.max_gb; what a longer video needs is held in temporary "
        "files in the cache's folder (default: four fifths of what is free)",
    )


def _most_memory(text: str) -> str:
    """Parse gigabytes to the assignment of their setting."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"must be a number of gigabytes above 0, such as 2.5, got {text}")
    return f"memory.max_gb={float(text)}"


def _cache_folder(text: str) -> Path:
    return Path(text) if text else default_cache_folder()


def add_point_arguments(parser: Parser) -> None:
    """Add the arguments that choose a video, its points to track, and their true tracks."""
    parser.add_argument("--video", type=path_text, required=True, help="video file, or folder of frames")
    add_first_frames(parser, "it")
    parser.add_argument(
        "--frames",
        type=frame_range,
        metavar="A-B",
        help="only frame A to frame B of it, B included; frames keep their numbers",
    )
    parser.add_argument(
        "--start-frame",
        type=frame_number,
        default=0,
        metavar="N",
        help="number of the first frame in query points, --grid-frame, --frames and results (default 0)",
    )
    points = parser.add_mutually_exclusive_group()
    points.add_argument(
        "--queries", type=path_text, help="query points: .json, .csv, .tsv, .txt, .npy or .npz"
    )
    points.add_argument(
        "--grid",
        type=whole(1, 1000),
        metavar="N",
        help="instead: a square grid, N points in a row",
    )
    parser.add_argument(
        "--grid-frame", type=frame_number, metavar="F", help="frame of the grid (default: the first)"
    )
    parser.add_argument("--mask", type=path_text, help="image; the grid lies inside its non-zero pixels")
    add_mask_object(parser)
    parser.add_argument(
        "--gt",
        dest="truth",
        type=path_text,
        help="tracks.npz with the true tracks of the same query points, to measure accuracy",
    )


def check_points(parser: Parser, request: PointsRequest, foreground: Path | None = None) -> None:
    """Exit with code 2 if a request gives no points to track, gives them twice, or an object of no mask."""
    if request.mask_object is not None and request.mask is None and foreground is None:
        parser.error("--mask-object goes with masks; give --mask or --foreground")
    check_first_frames(parser, request.first_frames)
    if request.first_frames and request.frames:
        parser.error("--first-frames and --frames do not go together; give one of them")
    if request.queries is None and request.grid is None:
        if request.mask is None:
            parser.error("no points to track; give --queries FILE or --grid N")
        parser.error("--mask needs --grid N, the number of points across the masked part")
    if request.mask is not None and request.grid is None:
        parser.error("--mask goes with --grid, not with --queries")
