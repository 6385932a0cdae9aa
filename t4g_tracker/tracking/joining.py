"""Joining matches with flow: in each frame the least uncertain of all, looks considered.

Flow is precise and lost behind what hides a point, or slips onto something else; matching finds points
again but confuses look-alikes. Both get an uncertainty in the same unit, squared working pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from t4g_tracker.coordinates import inside, rescale
from t4g_tracker.datatypes import QueryPoints, Video
from t4g_tracker.motion.following import Followed, Matches, Motion, follow
from t4g_tracker.stage_log import Progress
from t4g_tracker.tracking.scene import Scene, cycle_error, match_frames
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.subpixel import refine_positions


def join(
    scene: Scene,
    queries: QueryPoints,
    video: Video,
    motion: Motion,
    trust: float,
    config: TrackingConfig,
    progress: Progress | None = None,
) -> Followed:
    """Follow query points along flow and matches.

    The first round matches the features of the query point. A second one matches their average with those of
    frames in which the first was sure, which have seen the point from other sides.

    Args:
        scene: Features and queries.
        queries: N points, original pixels.
        video: The original frames.
        motion: The flow of the video.
        trust: How far matches count, above 0 and up to 1.
        config: What matches cost, and how the second round averages.
        progress: Called with (frames done, frames in all) over both rounds.

    Returns:
        N points in T frames, working pixels.
    """
    frame_count, size = video.frame_count, scene.working_size
    start = rescale(queries.xy.float(), video.size, size)
    found = Followed(torch.zeros(len(queries), frame_count, 2), torch.zeros(len(queries), frame_count))
    homes = queries.frame.unique().tolist()
    turns = 1 + len(homes) if config.memory else 1

    def matched(scene: Scene, vectors: Tensor, queries: QueryPoints, turn: int) -> Matches:
        report = None if progress is None else _part(progress, turn, turns)
        return _matches(scene, vectors, queries, video, trust, config, report)

    vectors = scene.queries()
    first = matched(scene, vectors, queries, 0)  # of all points, so that each frame is looked at once
    for turn, home in enumerate(homes, 1):  # so that flow straight from a query frame is needed once
        rows = (queries.frame == home).nonzero().squeeze(1)
        follows = partial(follow, home, start[rows], frame_count, motion.fields(home), size, motion.config)
        mine = follows(first.subset(rows))
        if config.memory:
            here, its_vectors = scene.subset(rows), vectors[rows.to(vectors.device)]
            remembered = _remembered(here, its_vectors, mine, config)
            mine = follows(matched(here, remembered, queries.subset(rows), turn))
        found.xy[rows], found.cost[rows] = mine.xy, mine.cost
    return found


def _part(progress: Progress, turn: int, turns: int) -> Progress:
    """Report one of several turns as a part of the whole."""
    return lambda done, total: progress((turn * total + done) // turns, total)


def _matches(
    scene: Scene,
    vectors: Tensor,
    queries: QueryPoints,
    video: Video,
    trust: float,
    config: TrackingConfig,
    progress: Progress | None,
) -> Matches:
    """Find the matches of vectors (N, C), with what each costs, and any position for its looks."""
    peaks, similarity = match_frames(scene, vectors, config.candidates, progress)
    xy = refined(scene, peaks, queries, video, config)
    return Matches(
        rescale(xy, video.size, scene.working_size),
        _match_costs(scene, peaks, similarity, config).cpu() / trust,
        _unlikeness(scene, vectors, similarity[:, :, 0], trust * config.appearance_cost),
    )


def refined(
    scene: Scene, peaks: Tensor, queries: QueryPoints, video: Video, config: TrackingConfig
) -> Tensor:
    """Convert matches (N, T, K, 2) in cells to original pixels, refined there if the settings say so."""
    xy = rescale(scene.in_pixels(peaks), scene.working_size, video.size)
    if not config.subpixel:
        return xy
    count, frames, candidates, _ = xy.shape
    # All candidates in one pass over the frames.
    each = queries.subset(torch.arange(count).repeat_interleave(candidates))
    flat = xy.transpose(1, 2).flatten(0, 1)
    found = refine_positions(video, each, flat, config.subpixel_reach_px, config.subpixel_window_px)
    return found.view(count, candidates, frames, 2).transpose(1, 2)


def _match_costs(scene: Scene, peaks: Tensor, similarity: Tensor, config: TrackingConfig) -> Tensor:
    """Uncertainty (N, T, K) of matches (N, T, K, 2), squared working pixels; inf where there is none.

    It is a constant, plus a share of the squared cycle error, plus what grows as the match looks less alike.
    """
    error_px = cycle_error(scene, peaks) * scene.stride_px
    led_astray = config.cycle_share * error_px.square()
    cost = config.match_cost + led_astray + config.unlike_cost * (config.alike - similarity).clamp_min(0)
    return cost.masked_fill(similarity.isinf(), torch.inf)


def _unlikeness(
    scene: Scene, vectors: Tensor, best: Tensor, cost: float
) -> Callable[[Tensor, int, Tensor], Tensor]:
    """Make the function that ``Matches.unlikeness`` describes.

    Args:
        scene: Features.
        vectors: (N, C) unit vectors of the points.
        best: (N, T) similarity of the best matches.
        cost: Of a position whose similarity is 1 below that, squared working pixels.
    """

    def unlikeness(points: Tensor, frame: int, xy: Tensor) -> Tensor:
        points = points.to(vectors.device)
        similarity = (vectors[points] * scene.sample_at(frame, xy)).sum(-1)
        unlike = (best[points, frame] - similarity).clamp_min(0).cpu()
        return cost * unlike * inside(xy, scene.working_size)  # nothing is known of what lies outside

    return unlikeness


def _remembered(scene: Scene, vectors: Tensor, found: Followed, config: TrackingConfig) -> Tensor:
    """Average unit vectors (N, C) with those of the frames where the point surely is as found."""
    total, count = torch.zeros_like(vectors), vectors.new_zeros(len(vectors), 1)
    sure = (found.cost <= config.sure_cost) & inside(found.xy, scene.working_size)
    sure[torch.arange(len(vectors)), scene.frame.cpu()] = False
    frames = range(sure.shape[1])
    rows = [sure[:, t].nonzero().squeeze(1) for t in frames]
    seen = scene.each(lambda t: scene.sample_at(t, found.xy[rows[t], t]), frames)
    for row, there in zip(rows, seen, strict=True):
        total[row.to(total.device)] += there
        count[row.to(count.device)] += 1
    return normalize(vectors + config.memory * total / count.clamp_min(1), dim=-1)
