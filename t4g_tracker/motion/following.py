"""Following points along flow over several gaps: in each frame the least uncertain hypothesis.

Flow between neighbouring frames, chained, is lost behind the first occluder and adds up its errors. Flow
over larger gaps jumps over both, but fails more often. So a point gets a hypothesis from each gap, and
keeps the one that has gathered the least uncertainty on its way.

Source: the idea of MFT, Neoral et al., arXiv:2305.12998; its learned uncertainty is replaced by the
squared cycle error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import FlowFields
from t4g_tracker.motion.fields import carry, distance
from t4g_tracker.motion.settings import MotionConfig
from t4g_tracker.threads import in_threads

POINTS_AT_ONCE = 8192  # followed together, by one thread
MATCHED_AT_ONCE = 1024  # likewise, where a feature of each hypothesis is looked at


@dataclass(frozen=True)
class Matches:
    """Positions found by other means than flow, each with an uncertainty of its own."""

    xy: Tensor  # (N, T, K, 2) pixels of the same frame as the query points
    cost: Tensor  # (N, T, K) squared pixels; inf where there is none
    # What any position costs for its looks, in choosing alone: takes the indices (P,) of points, a frame
    # and positions (P, 2) there, and returns (P,) squared pixels.
    unlikeness: Callable[[Tensor, int, Tensor], Tensor] | None = None

    def subset(self, rows: Tensor) -> Matches:
        """Those of the points at the indices ``rows``."""
        unlikeness = self.unlikeness
        if unlikeness is None:
            return Matches(self.xy[rows], self.cost[rows])
        return Matches(
            self.xy[rows], self.cost[rows], lambda points, frame, xy: unlikeness(rows[points], frame, xy)
        )


@dataclass(frozen=True)
class Followed:
    """Where points came to, and how uncertain that is."""

    xy: Tensor  # (N, T, 2)
    cost: Tensor  # (N, T) squared pixels; 0 at the start, inf in frames that nothing leads to


def follow(
    frame: int,
    xy: Tensor,
    frame_count: int,
    fields: Sequence[FlowFields],
    size: Size,
    config: MotionConfig,
    matches: Matches | None = None,
    reach: int | None = None,
) -> Followed:
    """Follow points through all frames, from their frame outwards in both directions.

    The cost of a hypothesis is that of the position it was carried from, plus the squared cycle error of
    the flow, plus ``config.step_cost``. Of all that lead to a frame, and of the matches in it, the cheapest
    is kept. Two things count in choosing, and are not carried on: what a position costs for its looks, and
    for leaving the flow from the neighbouring frame. Without the latter, flow over two frames makes two
    chains, of even frames and of odd ones, and a point whose chains differ jumps between them.

    Args:
        frame: The frame that all points start in.
        xy: (N, 2) pixels of a frame of ``size``.
        frame_count: T.
        fields: Flow over gaps and, perhaps, straight from ``frame``; their own size may differ.
        size: (H, W) that positions are in.
        config: What flow and jumps cost, squared pixels of ``size``.
        matches: Further hypotheses.
        reach: Frames before and after ``frame`` beyond which nothing is followed; None: all are.

    Returns:
        N points in T frames.
    """
    some = POINTS_AT_ONCE if matches is None else MATCHED_AT_ONCE

    def followed(rows: Tensor) -> Followed:
        mine = None if matches is None else matches.subset(rows)
        return _follow(frame, xy[rows], frame_count, fields, size, config, mine, reach)

    parts = list(in_threads(followed, torch.arange(len(xy)).split(some)))
    return Followed(torch.cat([part.xy for part in parts]), torch.cat([part.cost for part in parts]))


def _follow(
    frame: int,
    xy: Tensor,
    frame_count: int,
    fields: Sequence[FlowFields],
    size: Size,
    config: MotionConfig,
    matches: Matches | None,
    reach: int | None,
) -> Followed:
    """``follow`` for as many points as are followed at once."""
    # All x of a frame lie side by side in memory, then all y: twice as fast to compute with as pairs.
    positions = xy.new_zeros(frame_count, 2, len(xy), dtype=torch.float32).permute(2, 0, 1)
    cost = torch.full((frame_count, len(xy)), torch.inf).T
    points = torch.arange(len(xy))
    positions[:, frame], cost[:, frame] = xy.float(), 0
    for target in _outwards(frame, frame_count, frame_count if reach is None else reach):
        # Gather the hypotheses, with the cost of each.
        there, total, neighbour = [], [], None
        for flow, begin in leading_to(target, frame, fields):
            carried, cycle_error = carry(flow, begin, target, positions[:, begin], size)
            there.append(carried)
            if abs(begin - target) == 1:
                neighbour = carried
            total.append(cost[:, begin] + cycle_error.square() + config.step_cost)
        if matches is not None:
            there += matches.xy[:, target].unbind(1)
            total += matches.cost[:, target].unbind(1)
        places, totals = torch.stack([place.T for place in there]), torch.stack(total)  # (K, 2, N), (K, N)
        # Keep the least uncertain, where jumps and looking unlike the query count in choosing.
        judged = totals + _jump_cost(places.mT, neighbour, config)
        if matches is not None and matches.unlikeness is not None:
            each = points.repeat(len(there)), target, places.mT.flatten(0, 1)
            judged += matches.unlikeness(*each).view(judged.shape)
        best = judged.min(0, keepdim=True).indices
        positions[:, target] = places.gather(0, best[:, None].expand(-1, 2, -1))[0].T
        cost[:, target] = totals.gather(0, best)[0]
    return Followed(positions.contiguous(), cost.contiguous())


def _jump_cost(xy: Tensor, neighbour: Tensor | None, config: MotionConfig) -> Tensor | float:
    """What positions (K, N, 2) cost for leaving those (N, 2) that the neighbouring frame's flow leads to."""
    if neighbour is None:
        return 0.0
    apart = distance(xy, neighbour) / config.jump_px
    return config.jump_cost * apart.clamp_max(1).square()


def _outwards(frame: int, frame_count: int, reach: int) -> list[int]:
    """The frames after ``frame``, then those before it, the nearer first."""
    after = range(frame + 1, min(frame_count, frame + reach + 1))
    before = range(frame - 1, max(-1, frame - reach - 1), -1)
    return [*after, *before]


def leading_to(target: int, frame: int, fields: Sequence[FlowFields]) -> list[tuple[FlowFields, int]]:
    """Flows to ``target`` from ``frame`` and from frames between the two, with the frame each comes from."""
    low, high = min(frame, target), max(frame, target)
    found = [(flow, source) for flow in fields for source in flow.leading_to.get(target, [])]
    return [(flow, source) for flow, source in found if low <= source <= high]


@dataclass(frozen=True)
class Motion:
    """All the flow of a video that points can be carried along."""

    flow: FlowFields  # over gaps
    config: MotionConfig
    from_query: Callable[[int], FlowFields] | None = None  # computes flow straight from a frame, or reads it

    def fields(self, frame: int) -> list[FlowFields]:
        """All flow that points starting in ``frame`` are carried along: over gaps, then straight from it."""
        return [self.flow] if self.from_query is None else [self.flow, self.from_query(frame)]

    def follow(self, frame: Tensor, xy: Tensor, frame_count: int, size: Size) -> Followed:
        """Follow points that start in frames of their own.

        Args:
            frame: (N,) int64 frame that each point starts in.
            xy: (N, 2) working pixels.
            frame_count: T.
            size: (H, W) of the working pixels.

        Returns:
            N points in T frames, working pixels.
        """
        result = Followed(torch.zeros(len(xy), frame_count, 2), torch.zeros(len(xy), frame_count))
        for home in frame.unique().tolist():
            rows = (frame == home).nonzero().squeeze(1)
            found = follow(home, xy[rows], frame_count, self.fields(home), size, self.config)
            result.xy[rows], result.cost[rows] = found.xy, found.cost
        return result
