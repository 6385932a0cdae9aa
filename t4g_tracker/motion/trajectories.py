"""Trajectories, the training targets: dense points followed along flow, stored compactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, inside, rescale, tile_centres
from t4g_tracker.datatypes import FlowFields, Trajectories
from t4g_tracker.errors import NothingToFollowError
from t4g_tracker.motion.chained import chained_trajectories
from t4g_tracker.motion.fields import threshold_scale
from t4g_tracker.motion.following import follow
from t4g_tracker.motion.settings import MotionConfig, TrajectoriesConfig
from t4g_tracker.stage_log import Progress
from t4g_tracker.threads import in_threads

MOST_POSITIONS = 8_000_000  # of all trajectories, 100 MB; in longer videos they start further apart


def make_trajectories(
    flow: FlowFields,
    frame_count: int,
    config: TrajectoriesConfig,
    working_size: Size,
    motion: MotionConfig,
    progress: Progress | None = None,
) -> Trajectories:
    """Make trajectories of flow by the rule that the settings name.

    Args:
        flow: Over several gaps, in pixels of its own size.
        frame_count: T.
        config: Rule, thresholds and spacing at 320x576, scaled here to the size at hand.
        working_size: (H, W) of the result's pixels.
        motion: What hypotheses cost, squared working pixels; see ``follow``.
        progress: Called with (frames with starting points done, in all).

    Returns:
        Trajectories in working pixels, of at least ``config.minimum_frames`` positions, or T if that is less.

    Raises:
        NothingToFollowError: If nothing survives.
    """
    if config.rule == "chained":
        found = chained_trajectories(flow, frame_count, config)
        found = Trajectories(found.length, found.frame, rescale(found.xy, flow.size, working_size))
    else:
        found = gap_trajectories(flow, frame_count, config, working_size, motion, progress)
    found = found.subset(found.length >= min(config.minimum_frames, frame_count))
    if not len(found):
        threshold = "cycle_threshold_px" if config.rule == "chained" else "uncertainty_px"
        raise NothingToFollowError(
            "no point of the video survives the flow's cycle check, so there is nothing to adapt to; "
            f"raise trajectories.{threshold}, or track with frozen features alone: adaptation.steps=0 "
            "tracking.motion=false"
        )
    return found


def gap_trajectories(
    flow: FlowFields,
    frame_count: int,
    config: TrajectoriesConfig,
    working_size: Size,
    motion: MotionConfig,
    progress: Progress | None = None,
) -> Trajectories:
    """Follow a grid of points from every few frames, in both directions, past what hides them.

    A position is kept where it lies in the frame and its uncertainty is small. So a trajectory skips the
    frames in which its point is hidden, and goes on behind them.

    Args, result: as in ``make_trajectories``, but with trajectories of any length.
    """
    scale = threshold_scale(working_size)
    begins = range(0, frame_count, config.start_every)
    span = min(frame_count, 2 * config.reach + 1)
    sparsest = (working_size[0] * working_size[1] * len(begins) * span / MOST_POSITIONS) ** 0.5
    starts = tile_centres(working_size, max(1, round(config.spacing_px * scale), math.ceil(sparsest)))
    highest = (config.uncertainty_px * scale) ** 2

    def started(begin: int) -> tuple[Tensor, Tensor, Tensor]:
        found = follow(begin, starts, frame_count, [flow], working_size, motion, reach=config.reach)
        kept = (found.cost <= highest) & inside(found.xy, working_size)
        return kept.sum(1), kept.nonzero()[:, 1].to(torch.int32), found.xy[kept]

    parts = []
    for part in in_threads(started, begins):
        parts.append(part)
        if progress is not None:
            progress(len(parts), len(begins))
    length, frame, xy = (torch.cat(each) for each in zip(*parts, strict=True))
    return Trajectories(length, frame, xy)
