"""Annotated points as a file holds them, checked before anything is tracked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from t4g_tracker.errors import DatasetError, TrackerError, warn

OUTSIDE_QUIETLY, OUTSIDE_AT_MOST = 0.01, 0.25  # of the frame's side, for a visible point
SURELY_PIXELS = 2.0  # no fraction of a side goes so far
WARNED_CLIPS = 3  # named one by one


@dataclass(frozen=True)
class Annotations:
    """TAP-Vid's two arrays of a clip, once they make sense."""

    points: np.ndarray  # (N, T, 2) float32 fractions of width and height; anything where not seen
    seen: np.ndarray  # (N, T) bool


def checked_annotations(points: Any, occluded: Any, frames: int, source: str) -> Annotations:
    """Check TAP-Vid's annotations of a clip.

    Where a point is hidden, its position may be anything, NaN included, as in published files.

    Args:
        points: (N, T, 2) fractions of width and height.
        occluded: (N, T) truth values, or 0 and 1.
        frames: T of the clip.
        source: Name of the annotations, for error messages.

    Raises:
        DatasetError: If they are no numbers, do not fit together or the clip, show no point at all, or show
            one outside the frame by more than a quarter of its side.
    """
    points, occluded = numbers(points, "points", source), truth_values(occluded, "occluded", source)
    if points.ndim != 3 or points.shape[2] != 2 or occluded.shape != points.shape[:2]:
        raise DatasetError(
            f"{source}: points {points.shape} and occluded {occluded.shape} do not fit together; they must "
            "be (points, frames, 2) and (points, frames)"
        )
    if points.shape[1] != frames:
        raise DatasetError(
            f"{source}: has {points.shape[1]} frames, the clip has {frames}; "
            "give tracks and frames of the same clip, one file for each frame"
        )
    if not (~occluded).any():
        raise DatasetError(
            f"{source}: shows none of its {len(points)} points in any frame; occluded must be false where a "
            "point is visible"
        )
    _check_fractions(points, ~occluded, source)
    with np.errstate(over="ignore"):  # of hidden points
        return Annotations(points.astype(np.float32), ~occluded)


def truth_values(values: Any, part: str, source: str) -> np.ndarray:
    """Convert truth values, or 0 and 1, to bool; refuse text, NaN and other numbers.

    Raises:
        DatasetError: If there is anything else among them.
    """
    array = numbers(values, part, source, "biuf")
    if array.dtype.kind != "b" and not np.isin(array, (0, 1)).all():
        wrong = array[~np.isin(array, (0, 1))].flat[0]
        raise DatasetError(f"{source}: its {part} must be true or false, or 1 and 0; got {wrong}")
    return array.astype(bool)


def warn_of_points_outside(annotations: Annotations, source: str) -> None:
    """Warn of visible points that lie outside the frame, by less than is refused."""
    outside = outside_by(annotations.points[annotations.seen])
    count = int((outside > OUTSIDE_QUIETLY).sum())
    if count:
        warn(
            f"{source}: visible points lie outside the frame ({count}, by up to {outside.max():.2g} of its "
            "side) and are scored there; mark them occluded if they are hidden"
        )


def check_clips(names: Sequence[str], look: Callable[[str], object]) -> None:
    """Look at the annotations of every clip before any is tracked.

    Where some clips cannot be used, they are warned of here and fail alone when it is their turn.

    Args:
        names: The clips.
        look: Reads the annotations of one clip, and raises a TrackerError if they cannot be used.

    Raises:
        TrackerError: The first clip's, if no clip can be used.
    """
    faults: list[TrackerError] = []
    for name in names:
        try:
            look(name)
        except TrackerError as error:
            faults.append(error)
    if faults and len(faults) == len(names):
        raise faults[0]
    for fault in faults[:WARNED_CLIPS]:
        warn(f"{fault}; this clip will fail, the others go on")
    if len(faults) > WARNED_CLIPS:
        warn(f"{len(faults) - WARNED_CLIPS} more of {len(names)} clips will fail for their annotations")


def outside_by(fractions: np.ndarray) -> np.ndarray:
    """Measure how far positions (..., 2) lie outside the frame: (...,) in shares of its side, 0 inside."""
    inside: np.ndarray = np.maximum(np.maximum(-fractions, fractions - 1), 0).max(axis=-1)
    return inside


def _check_fractions(points: np.ndarray, seen: np.ndarray, source: str) -> None:
    """Refuse visible points (N, T, 2) that are not finite or not in the frame; say what is likely wrong."""
    usable = np.isfinite(points).all(axis=-1)
    usable[usable] = outside_by(points[usable].astype(np.float64)) <= OUTSIDE_AT_MOST
    wrong = np.argwhere(seen & ~usable)
    if not len(wrong):
        return
    point, frame = wrong[0].tolist()
    x, y = points[point, frame].tolist()
    place = f"{source}: point {point} is visible in frame {frame} at ({x:.6g}, {y:.6g})"
    if not np.isfinite((x, y)).all():
        raise DatasetError(f"{place}, which is no position; mark it occluded there")
    largest = np.nanmax(np.abs(points[seen]))
    if largest > SURELY_PIXELS:
        raise DatasetError(
            f"{place}, and coordinates go to {largest:.6g}; TAP-Vid stores fractions of width and height, "
            "0 to 1: divide pixels by them"
        )
    raise DatasetError(
        f"{place}, far outside the frame, where fractions run from 0 to 1; mark it occluded there"
    )


def numbers(values: Any, part: str, source: str, kinds: str = "iuf") -> np.ndarray:
    """Take an array, or lists of numbers, if the type of its elements is one of numpy's ``kinds``.

    Raises:
        DatasetError: If it is anything else.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:  # lists of different lengths
        raise DatasetError(f"{source}: its {part} are not an array; write one array") from error
    if array.dtype.kind not in kinds:
        known = {"O": "objects", "U": "text", "S": "bytes", "b": "truth values", "c": "complex numbers"}
        kind = known.get(array.dtype.kind, str(array.dtype))
        raise DatasetError(f"{source}: its {part} must be plain numbers, got {kind}; write them as such")
    return array
