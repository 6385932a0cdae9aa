"""Cutting a video into the clips of fixed length that a video diffusion model was trained on.

Source: Track4Gen supplement 1.4, arXiv:2412.06016.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """One clip for the model, and the part of it whose features are kept."""

    frames: tuple[int, ...]  # frames of the video in the order the model sees them
    keep: slice  # positions in ``frames`` whose features are kept

    @property
    def kept_frames(self) -> tuple[int, ...]:
        """The frames of the video that take their features from this segment."""
        return self.frames[self.keep]


def segment_plan(frame_count: int, segment_frames: int) -> list[Segment]:
    """Cut a video into segments so that every frame is kept exactly once, in order.

    If the last segment is short, it borrows the last frames of the segment before it. They
    go in front, in order of time, so that the model sees one contiguous clip; their features
    are dropped. A video shorter than one segment is played back and forth (0 1 2 1 0 1 ...)
    until the segment is full, so no step is larger than in the video; the features of the
    repeats are dropped.

    Args:
        frame_count: Frames in the video. At least 1.
        segment_frames: Frames that the model sees at once. At least 1.

    Returns:
        Segments of exactly ``segment_frames`` frames, in the order of the video.

    Raises:
        ValueError: If either count is less than 1.

    Source: Track4Gen supplement 1.4. It does not state where the borrowed frames go, nor how a
    video shorter than one segment is treated.
    """
    if frame_count < 1 or segment_frames < 1:
        raise ValueError(f"need at least 1 frame and 1 frame a segment, got {frame_count}, {segment_frames}")
    if frame_count < segment_frames:
        return [Segment(_back_and_forth(frame_count, segment_frames), slice(0, frame_count))]
    whole, remainder = divmod(frame_count, segment_frames)
    plan = [
        Segment(tuple(range(first, first + segment_frames)), slice(0, segment_frames))
        for first in range(0, whole * segment_frames, segment_frames)
    ]
    if remainder:
        last = tuple(range(frame_count - segment_frames, frame_count))
        plan.append(Segment(last, slice(segment_frames - remainder, segment_frames)))
    return plan


def _back_and_forth(frame_count: int, length: int) -> tuple[int, ...]:
    """0 1 2 1 0 1 2 ... of ``frame_count`` frames, ``length`` long."""
    period = max(1, 2 * (frame_count - 1))
    return tuple(min(step % period, (period - step) % period) for step in range(length))
