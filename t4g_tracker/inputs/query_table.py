"""Query points as given, and the checks that they must pass before any work."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from t4g_tracker.coordinates import Size, inside
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import QueryError

MOST_POINTS = 100_000  # of one run: so many took 20 s of one core a frame (measured: 8 frames of 192x128)
LONGEST_NAME = 200  # characters

# tracks.csv, tracks.npz and run.json cannot hold them all, or readers cut the name there.
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class ClipFacts:
    """What a tracks.npz says of the clip that its points are of."""

    size: Size | None  # (H, W) pixels
    frame_count: int | None
    start_frame: int  # the number of its first frame


@dataclass(frozen=True)
class QueryTable:
    """Query points as a file or a program gives them, not yet checked against a video."""

    frame: np.ndarray  # (N,) float64
    xy: np.ndarray  # (N, 2) float64 original pixels
    names: Sequence[str | None] | None = None  # N, or None if no point has one
    lines: Sequence[int] | None = None  # N, the line of each point in a text file
    clip: ClipFacts | None = None  # of a tracks.npz; frames then count from 0, in that clip
    doubt: str = ""  # a warning that goes after the file's name

    def __len__(self) -> int:
        return len(self.frame)

    def where(self, index: int) -> str:
        """Say how to find a point, for messages."""
        line = f" on line {self.lines[index]}" if self.lines else ""
        name = self.names[index] if self.names else None
        return f"query point {index}{line}" + (f" ({name})" if name else "")


def check_count(count: int) -> None:
    """Raise QueryError if there are no points, or more than one run can track."""
    if not count:
        raise QueryError("holds no query points; give at least one as frame, x, y")
    if count > MOST_POINTS:
        raise QueryError(
            f"holds {count} query points, but one run tracks at most {MOST_POINTS}; split them over several"
        )


def check_in_video(table: QueryTable, video: Video, in_file: bool = True) -> None:
    """Raise QueryError if there are no points, or one is not in a frame of the video.

    Args:
        table: The points; their frames count from ``video.start_frame`` in a file, from 0 in an array.
        video: T frames of (H, W).
        in_file: Whether they are of a file.
    """
    check_count(len(table))
    frame, xy = table.frame, table.xy
    for field, values in (("frame", frame), ("x", xy[:, 0]), ("y", xy[:, 1])):
        bad = _first(~np.isfinite(values))
        if bad is not None:
            raise QueryError(f"{table.where(bad)}: {field} must be a finite number, got {values[bad]}")
    bad = _first(frame != np.floor(frame))
    if bad is not None:
        raise QueryError(f"{table.where(bad)}: frame must be a whole number, got {frame[bad]}")
    start_frame = video.start_frame if in_file else 0
    bad = _first((frame < start_frame) | (frame >= start_frame + video.frame_count))
    if bad is not None:
        remedy = _frame_remedy(frame, video) if in_file else "frames count from 0 in arrays"
        raise QueryError(
            f"{table.where(bad)} is in frame {frame[bad]:.10g}, but {described_frames(video, start_frame)}; "
            f"{remedy}"
        )
    within = inside(torch.from_numpy(xy), video.size).numpy()
    bad = _first(~within)
    if bad is not None:
        raise QueryError(
            f"{table.where(bad)} is at x = {xy[bad, 0]:.10g}, y = {xy[bad, 1]:.10g}, outside {video.source}; "
            f"{_position_remedy(xy, within, video.size)}"
        )


def _first(bad: np.ndarray) -> int | None:
    """The index of the first point that is bad, None if none is."""
    return int(bad.argmax()) if bad.any() else None


def described_frames(video: Video, start_frame: int | None = None) -> str:
    """Say how many frames a video has, and their numbers, by default from its own ``start_frame`` on."""
    first = video.start_frame if start_frame is None else start_frame
    return f"{video.source} has {video.frame_count} frames ({first}-{first + video.frame_count - 1})"


def _frame_remedy(frame: np.ndarray, video: Video) -> str:
    """Say what to do about frames that are not there; the likely cause if there is one."""
    lowest, highest, count = frame.min(), frame.max(), video.frame_count
    if video.start_frame:
        if lowest >= 0 and highest < count:
            return f"frames count from {video.start_frame} here, add that to the frames of the points"
        return "give points in these frames"
    first = video.first_file_number
    if first and lowest >= first and highest < first + count:
        return f"the first file has the number {first}, so give --start-frame {first}"
    if lowest >= 1 and highest == count:
        return "frames count from 0, so if your first frame is number 1, give --start-frame 1"
    if lowest > 0 and highest - lowest < count:
        return "frames count from 0, so if your first frame has another number N, give --start-frame N"
    return "frames count from 0"


def _position_remedy(xy: np.ndarray, within: np.ndarray, size: Size) -> str:
    """Say where points may lie; the likely cause if points (N, 2) do not, given which are ``within``."""
    height, width = size
    allowed = f"x must be 0 to {width - 1} and y 0 to {height - 1}, give or take half a pixel"
    if bool(inside(torch.from_numpy(xy[:, ::-1].copy()), size).all()):
        return f"{allowed} (x and y swapped?)"
    if len(xy) > 1 and not within.any():
        return f"{allowed} (no point is inside: are they of a copy of another size than {width}x{height}?)"
    return allowed


def refuse_fractions(xy: np.ndarray, size: Size) -> None:
    """Refuse points (N, 2) that all lie within a pixel of the top left corner, off the pixels' centres.

    Points there at whole numbers are taken: fractions that are all 0 or 1 are the frame's corners.

    Raises:
        QueryError: The message does not begin with a file's name.
    """
    if len(xy) and (xy >= 0).all() and (xy <= 1).all() and (xy != np.round(xy)).any():
        height, width = size
        raise QueryError(
            "every x and y is in 0..1, within a pixel of the top left corner; if they are fractions, "
            f"multiply x by {width} and y by {height}, and subtract 0.5; if they are pixels, round them"
        )


def checked_name(name: str | None, where: str) -> str | None:
    """Strip a name; None if nothing is left. Raise QueryError if results could not hold it."""
    name = (name or "").strip() or None
    if name is None:
        return None
    bad = _UNWRITABLE.search(name)
    if bad:
        raise QueryError(
            f"{where}: its name has the character U+{ord(bad[0]):04X}, which results cannot hold; remove it"
        )
    if len(name) > LONGEST_NAME:
        raise QueryError(
            f"{where}: its name has {len(name)} characters; give at most {LONGEST_NAME} ({name[:20]}...)"
        )
    return name


def complete_names(table: QueryTable) -> tuple[str, ...]:
    """Fill in missing names.

    A point without a name is called point-0, point-1, ... after its place, or, if that name is taken,
    after the first free number from N on.

    Raises:
        QueryError: If two points have the same name.
    """
    given = table.names or [None] * len(table)
    owner: dict[str, int] = {}
    for index, name in enumerate(given):
        if name is None:
            continue
        if name in owner:
            first = table.where(owner[name])
            raise QueryError(f"{table.where(index)} has the same name as {first}; give each its own")
        owner[name] = index
    names, spare = [], len(given)
    for index, name in enumerate(given):
        filled = name or f"point-{index}"
        while name is None and filled in owner:
            filled, spare = f"point-{spare}", spare + 1
        names.append(filled)
    return tuple(names)
