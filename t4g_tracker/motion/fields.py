"""Points on flow fields: sampling, carrying, cycle error."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, length_scale, rescale
from t4g_tracker.datatypes import FlowFields

REFERENCE_PIXELS = 320 * 576  # the published thresholds are for this size


def threshold_scale(size: Size) -> float:
    """The factor from pixels at 320x576, in which thresholds are given, to those of ``size`` (H, W)."""
    return length_scale(size, REFERENCE_PIXELS)


def pairs_over_gaps(frame_count: int, gaps: Sequence[int]) -> list[tuple[int, int]]:
    """List all pairs of frames (i, i + gap), ordered by their later frame."""
    pairs = [(t, t + gap) for gap in gaps for t in range(frame_count - gap)]
    return sorted(pairs, key=lambda pair: (pair[1], -pair[0]))


def pairs_from(frame: int, frame_count: int, reach: int, dense_reach: int) -> list[tuple[int, int]]:
    """Pair a frame with all that are near it, and with ever fewer that are far.

    Args:
        frame: In each of the pairs.
        frame_count: T.
        reach: Frames before and after it that a pair spans at most.
        dense_reach: Every frame up to this far away is paired, every second up to twice as far, every fourth
            up to four times as far, and so on; at least 1.

    Returns:
        Pairs (i, j), i < j, in the order of the other frame.
    """
    others = [t for t in range(frame_count) if 0 < abs(t - frame) <= reach]
    doublings = {t: ((abs(t - frame) - 1) // dense_reach).bit_length() for t in others}
    kept = [t for t in others if (t - frame) % 2 ** doublings[t] == 0]
    return [(min(frame, t), max(frame, t)) for t in kept]


def sample_flow(flow: Tensor, xy: Tensor) -> Tensor:
    """Sample the displacement at positions between pixels, bilinearly.

    Args:
        flow: (2, H, W) pixels, any floating dtype.
        xy: (P, 2) pixels of the same grid; positions outside take the border's flow.

    Returns:
        (P, 2) float32 (dx, dy).
    """
    height, width = flow.shape[-2:]
    x = xy[:, 0].float().clamp(0, width - 1)
    y = xy[:, 1].float().clamp(0, height - 1)
    left, top = x.floor().clamp_max(max(width - 2, 0)), y.floor().clamp_max(max(height - 2, 0))
    across, down = x - left, y - top
    corner = top.long() * width + left.long()
    right, below = min(1, width - 1), width * min(1, height - 1)
    steps = torch.tensor([0, right, below, below + right], device=flow.device)
    first = torch.cat([steps, steps + height * width])  # of dx, then of dy
    # one selection from a single row: selecting from each of two rows takes four times as long
    around = flow.reshape(-1).index_select(0, (corner + first[:, None]).flatten()).float().view(2, 2, 2, -1)
    rows = around[:, :, 0] * (1 - across) + around[:, :, 1] * across  # the upper, and the one below
    return (rows[:, 0] * (1 - down) + rows[:, 1] * down).T


def carry(fields: FlowFields, begin: int, end: int, xy: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Carry points along the flow from one frame to another, and measure the cycle error.

    Args:
        fields: Holds the flow between the two frames.
        begin: Frame that the points are in.
        end: Frame that they are carried to.
        xy: (P, 2) pixels of a frame of ``size``.
        size: (H, W) that ``xy`` and the result are in; the flow's own may differ.

    Returns:
        (P, 2) positions in the frame ``end``, and (P,) cycle error in pixels of ``size``: the distance
        from ``xy`` after following the flow back from there.
    """
    here = rescale(xy.float(), size, fields.size)
    there = here + sample_flow(fields.between(begin, end), here)
    back = there + sample_flow(fields.between(end, begin), there)
    there, back = rescale(there, fields.size, size), rescale(back, fields.size, size)
    return there, distance(back, xy)


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Distances (...) between positions (..., 2), in whichever order these lie in memory."""
    # of numbers that lie apart the norm takes twenty times as long
    return (first - second).contiguous().norm(dim=-1)
