"""Trajectories by the published rule: neighbouring flow chained, checked both ways and against direct flow.

Source: supplement 1.1 of Track4Gen, arXiv:2412.06016; the compact storage is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from t4g_tracker.coordinates import inside, tile_centres
from t4g_tracker.datatypes import FlowFields, Trajectories
from t4g_tracker.motion.fields import carry, threshold_scale
from t4g_tracker.motion.settings import TrajectoriesConfig


def chained_trajectories(flow: FlowFields, frame_count: int, config: TrajectoriesConfig) -> Trajectories:
    """Chain flow into trajectories that start wherever no other trajectory is.

    A trajectory ends where it leaves the frame or a step fails the cycle check. Then direct flow over
    larger gaps detects drift: where i -> j is itself cycle-consistent and disagrees with the chained
    point, the trajectory is cut before j, so that no pair across j is trained on.

    Args:
        flow: Over gap 1, and over ``config.direct_gaps`` where they are to be tested.
        frame_count: T.
        config: Thresholds and spacing at 320x576, scaled here to the size of ``flow``.

    Returns:
        Trajectories in pixels of the flow, also those of one position.
    """
    scale = threshold_scale(flow.size)
    cycle_px = config.cycle_threshold_px * scale
    chained = _chain(flow, frame_count, cycle_px, max(1, round(config.spacing_px * scale)))
    gap = flow.pairs[:, 1] - flow.pairs[:, 0]
    tested = flow.pairs[torch.isin(gap, torch.tensor(config.direct_gaps, dtype=torch.int64))]
    return _cut_drift(chained, tested, flow, cycle_px, config.direct_threshold_px * scale)


def _chain(flow: FlowFields, frame_count: int, cycle_px: float, spacing_px: int) -> Trajectories:
    """Chain flow through all frames, starting a trajectory in every tile that has none."""
    size = height, width = flow.size
    seeds = tile_centres(size, spacing_px)
    tiles_across = -(-width // spacing_px)
    ids, xy = torch.arange(len(seeds)), seeds.clone()
    started = len(seeds)
    log_ids, log_frames, log_xy = [ids], [torch.zeros_like(ids)], [xy]
    for t in range(frame_count - 1):
        # Move the living trajectories, and drop those that fail the check.
        there, cycle_error = carry(flow, t, t + 1, xy, size)
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


def _from_log(ids: Tensor, frames: Tensor, xy: Tensor, count: int) -> Trajectories:
    """Sort (id, frame, position) entries, in frame order per id, into trajectories."""
    order = torch.argsort(ids, stable=True)
    length = torch.bincount(ids, minlength=count)
    return Trajectories(length, frames[order].to(torch.int32), xy[order])


def _cut_drift(
    trajectories: Trajectories,
    pairs: Tensor,
    flow: FlowFields,
    cycle_px: float,
    direct_px: float,
) -> Trajectories:
    """Cut trajectories before frame j where the direct flow i -> j of ``pairs`` (P, 2) contradicts them."""
    cut_before = torch.zeros(trajectories.xy.shape[0], dtype=torch.bool)
    begin = trajectories.begin
    end = begin + trajectories.length
    for first, second in pairs.tolist():
        which = ((begin <= first) & (end > second)).nonzero().squeeze(1)
        here = trajectories.at(which, torch.full_like(which, first))
        chained = trajectories.at(which, torch.full_like(which, second))
        direct, cycle_error = carry(flow, first, second, here, flow.size)
        drifted = which[(cycle_error <= cycle_px) & ((direct - chained).norm(dim=-1) >= direct_px)]
        cut_before[trajectories.first[drifted] + second - begin[drifted]] = True
    return _split(trajectories, cut_before)


def _split(trajectories: Trajectories, cut_before: Tensor) -> Trajectories:
    """Start a new trajectory at every marked row of ``xy``."""
    begins = cut_before.clone()
    begins[trajectories.first] = True
    length = torch.bincount(torch.cumsum(begins, 0) - 1)
    return Trajectories(length, trajectories.frame, trajectories.xy)
