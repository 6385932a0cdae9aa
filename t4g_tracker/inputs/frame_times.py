"""When frames are shown: the mean rate of a video, and its times where they are uneven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """The rate of a video's frames and, if they do not follow it evenly, their times."""

    fps: float
    times: np.ndarray | None = None  # (T,) float64 seconds since the first frame, never decreasing


def timing_of(seconds: Sequence[float | None], stated_fps: float, tick_s: float) -> Timing:
    """Find the mean rate of frames from when they are shown.

    Files round times to their tick, so frames are taken as even if all are within a tick, or a quarter
    of a frame if that is less, of a steady rate: the stated one, or else the mean.

    Args:
        seconds: When each of T frames is shown; None where the file does not tell.
        stated_fps: The rate by the file's header.
        tick_s: The unit of the file's times.

    Returns:
        ``stated_fps`` alone if the frames are even, or if some have no time or one earlier than the frame
        before. Otherwise the mean rate, T - 1 frames by the time from the first to the last, and the times.
    """
    if len(seconds) < 2 or None in seconds:
        return Timing(stated_fps)
    times = np.asarray(seconds, np.float64)
    times = times - times[0]
    if (np.diff(times) < 0).any() or times[-1] == 0:
        return Timing(stated_fps)
    mean_fps = float((len(times) - 1) / times[-1])
    for fps in (stated_fps, mean_fps):
        allowed = min(tick_s, 0.25 / fps) + 1e-9
        if np.abs(times - np.arange(len(times)) / fps).max() <= allowed:
            return Timing(fps)
    return Timing(mean_fps, times)


def longest_gap(timing: Timing) -> tuple[float, float] | None:
    """Find where frames seem to be missing: the longest step of times that are even but for a few.

    Returns:
        When the gap begins, in seconds since the first frame, and how many frames would fill it; None if
        nine in ten steps are not alike, as where a recording is uneven on purpose.
    """
    if timing.times is None:
        return None
    steps = np.diff(timing.times)
    usual, longest = float(np.median(steps)), int(steps.argmax())
    even = np.abs(steps - usual) < 0.25 * usual
    if even.mean() < 0.9 or steps[longest] < 1.5 * usual:
        return None
    return float(timing.times[longest]), float(steps[longest] / usual - 1)


def frame_times(times: np.ndarray | None, frames: int, fps: float) -> np.ndarray:
    """(T,) float64 seconds at which frames are shown: those known, or one frame each 1 / fps."""
    return np.arange(frames) / fps if times is None else times.astype(np.float64)


def end_s(times: np.ndarray | None, frames: int, fps: float) -> float:
    """When the last frame ends, in seconds; if frames are uneven, it is shown as long as most others."""
    shown = frame_times(times, frames, fps)
    last = 1 / fps if times is None or frames < 2 else float(np.median(np.diff(times)))
    return float(shown[-1]) + last
