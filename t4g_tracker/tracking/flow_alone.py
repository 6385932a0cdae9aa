"""Query points carried along flow alone: what features and adaptation have to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, inside, rescale
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.motion.following import Followed, Motion
from t4g_tracker.stage_log import Progress
from t4g_tracker.tracking.visibility import VisibilityConfig, certainty


def track_by_flow(
    queries: QueryPoints,
    motion: Motion,
    frame_count: int,
    working_size: Size,
    video_size: Size,
    config: VisibilityConfig,
    progress: Progress | None = None,
) -> Tracks:
    """Track query points by the least uncertain flow, without any features.

    Args:
        queries: N points, original pixels.
        motion: The flow of the video.
        frame_count: T.
        working_size: (H, W) of working pixels, which uncertainty is measured in.
        video_size: (H, W) of the original frames.
        config: Up to which uncertainty a point counts as seen.
        progress: Called once with (T, T), at the end.

    Returns:
        N tracks over T frames in original pixels.
    """
    start = rescale(queries.xy.float(), video_size, working_size)
    followed = motion.follow(queries.frame, start, frame_count, working_size)
    if progress is not None:
        progress(frame_count, frame_count)
    return tracks_of(followed, queries, working_size, video_size, config)


def tracks_of(
    followed: Followed, queries: QueryPoints, working_size: Size, video_size: Size, config: VisibilityConfig
) -> Tracks:
    """Convert followed points in working pixels to tracks: seen where their uncertainty is small."""
    xy = rescale(followed.xy, working_size, video_size)
    return complete(
        xy, followed.cost <= config.largest_cost, certainty(followed.cost, config), queries, video_size
    )


def complete(xy: Tensor, seen: Tensor, confidence: Tensor, queries: QueryPoints, video_size: Size) -> Tracks:
    """Make tracks of positions (N, T, 2): what lies outside the frame is not seen, and the query point is."""
    points = torch.arange(len(queries))
    xy[points, queries.frame] = queries.xy.float()
    within = inside(xy, video_size)
    seen, confidence = seen & within, confidence * within
    seen[points, queries.frame], confidence[points, queries.frame] = True, 1.0
    return Tracks(xy, seen, confidence)
