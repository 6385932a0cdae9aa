"""Choosing one candidate per frame so that each point's path as a whole is most plausible.

Matching each frame on its own jumps between look-alikes; chained flow drifts and is lost
behind the first occluder. Here both offer candidates, and dynamic programming (Viterbi,
1967) picks the sequence that looks most like the point and moves most like the flow. A
jump costs the same however far it goes, so a point that reappears elsewhere is found.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, rescale
from t4g_tracker.datatypes import FlowSequence
from t4g_tracker.trajectories import sample_flow


@dataclass(frozen=True)
class Candidates:
    """Where each point may be in each frame."""

    xy: Tensor  # (N, T, K, 2) working pixels
    similarity: Tensor  # (N, T, K) cosine similarity; -inf where there is no candidate

    def at(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (N, T, 2) and similarities (N, T) of the candidates ``index`` (N, T)."""
        xy = self.xy.gather(2, index[..., None, None].expand(*index.shape, 1, 2)).squeeze(2)
        return xy, self.similarity.gather(2, index[..., None]).squeeze(2)


def choose_paths(
    candidates: Candidates,
    query_frame: Tensor,
    query_xy: Tensor,
    flow: FlowSequence,
    working_size: Size,
    jump_cost: float,
    jump_px: float,
) -> Tensor:
    """Find the best path of every point through all frames.

    A path's cost is the sum over frames of minus the similarity, plus, for each step,
    ``jump_cost * min(1, d / jump_px)`` where d is how far the step is from the flow's.
    In its query frame a point has one candidate only, itself, so one pass over the
    frames settles what comes before it and what comes after.

    Args:
        candidates: K candidates for N points in T frames.
        query_frame: (N,) int64.
        query_xy: (N, 2) working pixels.
        flow: T - 1 steps, in pixels of their own size.
        working_size: (H, W) of the working pixels.
        jump_cost: Cost of leaving the flow, in units of similarity.
        jump_px: Departure from the flow that counts as a full jump, working pixels.

    Returns:
        (N, T) index of the chosen candidate; any index in the query frame.
    """
    count, frames, options, _ = candidates.xy.shape
    at_query = torch.arange(frames) == query_frame[:, None]
    xy = torch.where(at_query[..., None, None], query_xy[:, None, None], candidates.xy)
    similarity = candidates.similarity.masked_fill(at_query[..., None], 0)
    cost = -similarity[:, 0]
    came_from = torch.zeros(count, frames, options, dtype=torch.int64)
    for t in range(1, frames):
        carried = _carry(xy[:, t - 1], flow.forward[t - 1], working_size)
        apart = (xy[:, t, None] - carried[:, :, None]).norm(dim=-1)
        step = cost[:, :, None] + jump_cost * (apart / jump_px).clamp_max(1)
        best, came_from[:, t] = step.min(1)
        cost = best - similarity[:, t]
    chosen = torch.zeros(count, frames, dtype=torch.int64)
    chosen[:, -1] = cost.argmin(1)
    for t in range(frames - 1, 0, -1):
        chosen[:, t - 1] = came_from[:, t].gather(1, chosen[:, t, None]).squeeze(1)
    return chosen


def _carry(xy: Tensor, flow: Tensor, working_size: Size) -> Tensor:
    """Move positions (N, K, 2) in working pixels along a flow field (2, H, W), whose size may differ."""
    size = (flow.shape[1], flow.shape[2])
    there = rescale(xy.flatten(0, 1), working_size, size)
    return rescale(there + sample_flow(flow, there), size, working_size).view_as(xy)
