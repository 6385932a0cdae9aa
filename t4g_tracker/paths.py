"""Choosing one candidate per frame so that each point's path as a whole is most plausible.

Matching each frame on its own jumps between look-alikes; chained flow drifts and is lost
behind the first occluder. Here both offer candidates, and dynamic programming (Viterbi,
1967) picks the sequence that looks most alike and moves most nearly as the flow does. A
jump costs the same however far it goes, so a point that reappears elsewhere is found.
"""

from __future__ import annotations

import itertools
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
    """Find the best path of every point, forward and backward from its query frame.

    A path's cost is the sum over frames of minus the similarity, plus, for each step,
    ``jump_cost * min(1, d / jump_px)`` where d is how far the step is from the flow's.

    Args:
        candidates: K candidates for N points in T frames.
        query_frame: (N,) int64.
        query_xy: (N, 2) working pixels; the only candidate in its query frame.
        flow: T - 1 steps, in pixels of their own size.
        working_size: (H, W) of the working pixels.
        jump_cost: Cost of leaving the flow, in units of similarity.
        jump_px: Departure from the flow that counts as a full jump, working pixels.

    Returns:
        (N, T) index of the chosen candidate; any index in the query frame.
    """
    frames = candidates.xy.shape[1]
    forward = _sweep(
        candidates, query_frame, query_xy, flow.forward, working_size, jump_cost, jump_px, list(range(frames))
    )
    backward = _sweep(
        candidates,
        query_frame,
        query_xy,
        flow.backward,
        working_size,
        jump_cost,
        jump_px,
        list(range(frames - 1, -1, -1)),
    )
    times = torch.arange(frames, device=query_frame.device)
    return torch.where(times >= query_frame[:, None], forward, backward)


def _sweep(
    candidates: Candidates,
    query_frame: Tensor,
    query_xy: Tensor,
    flow: Tensor,
    working_size: Size,
    jump_cost: float,
    jump_px: float,
    order: list[int],
) -> Tensor:
    """Dynamic programming along ``order``; frames before a point's query frame mean nothing."""
    count, frames, options, _ = candidates.xy.shape
    cost = torch.zeros(count, options)
    came_from = torch.zeros(count, frames, options, dtype=torch.int64)
    here = candidates.xy[:, order[0]]
    for now, then in itertools.pairwise(order):
        here = torch.where((query_frame == now)[:, None, None], query_xy[:, None], candidates.xy[:, now])
        cost = torch.where((query_frame == now)[:, None], torch.zeros(()), cost)
        carried = _carry(here, flow[min(now, then)], working_size)
        apart = (candidates.xy[:, then][:, None] - carried[:, :, None]).norm(dim=-1)
        step = cost[:, :, None] + jump_cost * (apart / jump_px).clamp_max(1)
        best, came_from[:, then] = step.min(1)
        cost = best - candidates.similarity[:, then]
    chosen = torch.zeros(count, frames, dtype=torch.int64)
    chosen[:, order[-1]] = cost.argmin(1)
    for now, then in zip(order[-2::-1], order[:0:-1], strict=True):
        chosen[:, now] = came_from[:, then].gather(1, chosen[:, then, None]).squeeze(1)
    return chosen


def _carry(xy: Tensor, flow: Tensor, working_size: Size) -> Tensor:
    """Move positions (N, K, 2) in working pixels along one flow field (2, H, W) of its own size."""
    size = (flow.shape[1], flow.shape[2])
    there = rescale(xy.flatten(0, 1), working_size, size)
    return rescale(there + sample_flow(flow, there), size, working_size).view_as(xy)
