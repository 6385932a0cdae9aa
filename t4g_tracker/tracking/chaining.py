"""Query points carried along chained flow: a baseline, a candidate for paths, and its cycle error."""

from __future__ import annotations

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, inside, rescale
from t4g_tracker.datatypes import FlowSequence, QueryPoints, Tracks
from t4g_tracker.trajectories import TrajectoriesConfig, follow, sample_flow, threshold_scale


def chain_query_points(
    queries: QueryPoints,
    flow: FlowSequence,
    video_size: Size,
    cycle_threshold_px: float = TrajectoriesConfig.cycle_threshold_px,
) -> Tracks:
    """Track query points by chaining flow alone: the baseline that adaptation has to beat.

    A point counts as visible until a step fails the cycle check or leaves the frame.
    Its position follows the flow even then.

    Args:
        queries: N points, original pixels.
        flow: T - 1 steps, in pixels of their own size.
        video_size: (H, W) of the original frames.
        cycle_threshold_px: Largest accepted cycle error of a step, at 320x576.

    Returns:
        Tracks in original pixels; confidence is 1 where visible, else 0.
    """
    frame_count = flow.forward.shape[0] + 1
    size = (flow.forward.shape[-2], flow.forward.shape[-1])
    threshold_px = cycle_threshold_px * threshold_scale(size)
    points = torch.arange(len(queries))
    xy = torch.zeros(len(queries), frame_count, 2)
    xy[points, queries.frame] = rescale(queries.xy.float(), video_size, size)
    visibility = torch.zeros(len(queries), frame_count, dtype=torch.bool)
    visibility[points, queries.frame] = True

    def step(which: Tensor, now: int, then: int, there: Tensor, back: Tensor) -> None:
        """Fill in frame ``then`` from frame ``now`` for the points that the mask ``which`` selects."""
        moved, cycle_error = follow(there, back, xy[which, now])
        xy[which, then] = moved
        visibility[which, then] = visibility[which, now] & (cycle_error <= threshold_px) & inside(moved, size)

    for t in range(frame_count - 1):
        step(queries.frame <= t, t, t + 1, flow.forward[t], flow.backward[t])
    for t in range(frame_count - 1, 0, -1):
        step(queries.frame >= t, t, t - 1, flow.backward[t - 1], flow.forward[t - 1])
    return Tracks(rescale(xy, size, video_size), visibility, visibility.float())


def chained_cycle_error(
    xy: Tensor, query_frame: Tensor, query_xy: Tensor, flow: FlowSequence, working_size: Size
) -> Tensor:
    """Measure the cycle error of chained flow: the distance to the query point after chaining back.

    Drifted flow does not return to its start, except by chance, even if each of its steps passes
    the cycle check.

    Args:
        xy: (N, T, 2) positions of N points, working pixels.
        query_frame: (N,) int64.
        query_xy: (N, 2) working pixels.
        flow: T - 1 steps, in pixels of their own size.
        working_size: (H, W) of the working pixels.

    Returns:
        (N, T) distance in working pixels.
    """
    size = (flow.forward.shape[-2], flow.forward.shape[-1])
    there = rescale(xy, working_size, size)
    frame = torch.arange(xy.shape[1]).expand(xy.shape[:2])
    home = query_frame[:, None]
    # A pass from the last frame down takes later positions home; a pass from the first up, earlier ones.
    for t in range(len(flow.backward), 0, -1):
        under_way = (frame >= t) & (home < t)
        there[under_way] += sample_flow(flow.backward[t - 1], there[under_way])
    for t in range(len(flow.forward)):
        under_way = (frame <= t) & (home > t)
        there[under_way] += sample_flow(flow.forward[t], there[under_way])
    return (rescale(there, size, working_size) - query_xy[:, None]).norm(dim=-1)
