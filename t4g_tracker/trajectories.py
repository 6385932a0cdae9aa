"""Trajectories: optical flow chained from frame to frame, checked both ways, stored compactly.

Source: supplement 1.1 of Track4Gen, arXiv:2412.06016; the compact storage is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from t4g_tracker.coordinates import Size, inside, rescale, to_sample_grid
from t4g_tracker.datatypes import FlowSequence, Trajectories
from t4g_tracker.errors import NothingToFollowError
from t4g_tracker.limits import Limits, check_limits

REFERENCE_PIXELS = 320 * 576  # the published thresholds are for this size
PairFlow = Callable[[list[tuple[int, int]]], Tensor]


@dataclass(frozen=True, kw_only=True)
class TrajectoriesConfig:
    """How flow is chained into training targets."""

    cycle_threshold_px: float = 1.5  # at 320x576: a step with a larger cycle error ends the trajectory
    direct_threshold_px: float = 2.0  # at 320x576: chained and consistent direct flow may differ by this much
    direct_gaps: tuple[int, ...] = (4, 8, 16)  # frames that a direct flow spans; empty: no direct test
    direct_pairs: int = 24  # largest number of frame pairs that get a direct flow
    spacing_px: int = 4  # at 320x576: a trajectory starts in each tile of this side that has none
    minimum_frames: int = 3  # shorter trajectories are dropped

    LIMITS: ClassVar[Limits] = {
        "cycle_threshold_px": (0.001, 1000),
        "direct_threshold_px": (0.001, 1000),
        "direct_gaps": (2, 1_000_000),
        "direct_pairs": (0, 100_000),
        "spacing_px": (1, 1000),
        "minimum_frames": (2, 1_000_000),
    }

    def __post_init__(self) -> None:
        check_limits(self, "trajectories")


def threshold_scale(size: Size) -> float:
    """The factor from pixels at 320x576, in which thresholds are given, to those of ``size`` (H, W)."""
    return float((size[0] * size[1] / REFERENCE_PIXELS) ** 0.5)


def sample_flow(flow: Tensor, xy: Tensor) -> Tensor:
    """Sample the displacement at positions between pixels.

    Args:
        flow: (2, H, W) pixels, any floating dtype.
        xy: (P, 2) pixels of the same grid; positions outside take the border's flow.

    Returns:
        (P, 2) float32 (dx, dy).
    """
    grid = to_sample_grid(xy.float(), (flow.shape[1], flow.shape[2]))
    sampled = grid_sample(
        flow[None].float(), grid[None, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].T


def follow(flow: Tensor, reverse: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Move points along one flow field and measure the cycle error of the step.

    Args:
        flow: (2, H, W) displacement from this frame to the next, pixels.
        reverse: (2, H, W) displacement from the next frame to this one.
        xy: (P, 2) pixels in this frame.

    Returns:
        (P, 2) positions in the next frame, and (P,) cycle error in pixels: the distance from ``xy``
        after following the reverse flow from there.
    """
    there = xy + sample_flow(flow, xy)
    back = there + sample_flow(reverse, there)
    return there, (back - xy).norm(dim=-1)


def chain_flow(
    flow: FlowSequence,
    config: TrajectoriesConfig,
    working_size: Size,
    direct_flow: PairFlow | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trajectories:
    """Chain flow into trajectories that start wherever no other trajectory is.

    A trajectory ends where it leaves the frame or a step fails the cycle check. Then
    direct flow over a bounded set of larger gaps detects drift: where i -> j is itself
    cycle-consistent and disagrees with the chained point, the trajectory is cut before j,
    so that no pair across j is trained on.

    Args:
        flow: Neighbouring flows, in pixels of their own size.
        config: Thresholds and spacing at 320x576, scaled here to the size of ``flow``.
        working_size: (H, W) of the result's pixels.
        direct_flow: Takes P frame pairs and returns (P, 2, H, W); None skips the direct test.
        progress: Called with (direct flows done, in all).

    Returns:
        Trajectories of at least ``config.minimum_frames`` frames, in working pixels.

    Raises:
        NothingToFollowError: If nothing survives.

    Source: supplement 1.1 of Track4Gen, arXiv:2412.06016.
    """
    frame_count = flow.forward.shape[0] + 1
    size = (flow.forward.shape[-2], flow.forward.shape[-1])
    scale = threshold_scale(size)
    chained = _chain(flow, config.cycle_threshold_px * scale, max(1, round(config.spacing_px * scale)))
    if direct_flow is not None and config.direct_gaps and config.direct_pairs:
        pairs = _direct_pairs(frame_count, config)
        chained = _cut_drift(
            chained,
            pairs,
            direct_flow,
            cycle_px=config.cycle_threshold_px * scale,
            direct_px=config.direct_threshold_px * scale,
            progress=progress,
        )
    chained = chained.subset(chained.length >= min(config.minimum_frames, frame_count))
    if not len(chained):
        raise NothingToFollowError(
            "no point of the video survives the flow's cycle check, so there is nothing to adapt to; "
            "raise trajectories.cycle_threshold_px, or set adaptation.steps=0 to track with frozen features"
        )
    xy = rescale(chained.xy, size, working_size)
    return Trajectories(chained.start, chained.length, chained.first, xy)


def _chain(flow: FlowSequence, cycle_px: float, spacing_px: int) -> Trajectories:
    """Chain flow through all frames, starting a trajectory in every tile that has none."""
    steps, _, height, width = flow.forward.shape
    size = (height, width)
    seeds = _tile_centres(size, spacing_px)
    tiles_across = -(-width // spacing_px)
    ids, xy = torch.arange(len(seeds)), seeds.clone()
    started = len(seeds)
    log_ids, log_frames, log_xy = [ids], [torch.zeros_like(ids)], [xy]
    for t in range(steps):
        # Move the living trajectories, and drop those that fail the check.
        there, cycle_error = follow(flow.forward[t], flow.backward[t], xy)
        alive = (cycle_error <= cycle_px) & inside(there, size)
        ids, xy = ids[alive], there[alive]
        # Start new ones in the tiles left free.
        pixel = torch.minimum(xy.round().long().clamp_min(0), torch.tensor([width - 1, height - 1]))
        tile = (pixel // spacing_px) @ torch.tensor([1, tiles_across])
        free = torch.ones(len(seeds), dtype=torch.bool)
        free[tile] = False
        fresh = seeds[free]
        ids = torch.cat([ids, torch.arange(started, started + len(fresh))])
        xy = torch.cat([xy, fresh])
        started += len(fresh)
        log_ids.append(ids)
        log_frames.append(torch.full_like(ids, t + 1))
        log_xy.append(xy)
    return _from_log(torch.cat(log_ids), torch.cat(log_frames), torch.cat(log_xy), started)


def _tile_centres(size: tuple[int, int], spacing_px: int) -> Tensor:
    """(S, 2) seed positions, one in the middle of each tile, row by row."""
    middle = (spacing_px - 1) / 2
    y = (torch.arange(0, size[0], spacing_px) + middle).clamp_max(size[0] - 1)
    x = (torch.arange(0, size[1], spacing_px) + middle).clamp_max(size[1] - 1)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)


def _from_log(ids: Tensor, frames: Tensor, xy: Tensor, count: int) -> Trajectories:
    """Sort (id, frame, position) entries, in frame order per id, into trajectories."""
    order = torch.argsort(ids, stable=True)
    length = torch.bincount(ids, minlength=count)
    first = torch.cumsum(length, 0) - length
    return Trajectories(frames[order][first], length, first, xy[order])


def _direct_pairs(frame_count: int, config: TrajectoriesConfig) -> list[tuple[int, int]]:
    """Choose the frame pairs that get a direct flow: every gap, evenly spread, at most ``direct_pairs``."""
    gaps = [gap for gap in config.direct_gaps if gap < frame_count]
    pairs = [(t, t + gap) for gap in gaps for t in range(0, frame_count - gap, max(1, gap // 2))]
    if len(pairs) > config.direct_pairs:
        chosen = torch.linspace(0, len(pairs) - 1, config.direct_pairs).round().long().tolist()
        pairs = [pairs[index] for index in chosen]
    return pairs


def _cut_drift(
    trajectories: Trajectories,
    pairs: list[tuple[int, int]],
    direct_flow: PairFlow,
    cycle_px: float,
    direct_px: float,
    progress: Callable[[int, int], None] | None,
) -> Trajectories:
    """Cut trajectories before frame j where the direct flow i -> j contradicts them."""
    cut_before = torch.zeros(trajectories.xy.shape[0], dtype=torch.bool)
    end = trajectories.start + trajectories.length
    for done, (first, second) in enumerate(pairs):
        there, back = direct_flow([(first, second), (second, first)])
        which = ((trajectories.start <= first) & (end > second)).nonzero().squeeze(1)
        begin = trajectories.at(which, torch.full_like(which, first))
        chained = trajectories.at(which, torch.full_like(which, second))
        direct, cycle_error = follow(there, back, begin)
        drifted = which[(cycle_error <= cycle_px) & ((direct - chained).norm(dim=-1) >= direct_px)]
        cut_before[trajectories.first[drifted] + second - trajectories.start[drifted]] = True
        if progress is not None:
            progress(done + 1, len(pairs))
    return _split(trajectories, cut_before)


def _split(trajectories: Trajectories, cut_before: Tensor) -> Trajectories:
    """Start a new trajectory at every marked row of ``xy``."""
    begins = cut_before.clone()
    begins[trajectories.first] = True
    ids = torch.cumsum(begins, 0) - 1
    owner = torch.repeat_interleave(torch.arange(len(trajectories)), trajectories.length)
    frames = torch.arange(len(ids)) - trajectories.first[owner] + trajectories.start[owner]
    return _from_log(ids, frames, trajectories.xy, int(begins.sum()))
