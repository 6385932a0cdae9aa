"""Query points carried along flow alone: what features and adaptation have to beat."""

from __future__ import annotations

import torch

from t4g_tracker.coordinates import Size, inside, rescale
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.motion.following import Motion
from t4g_tracker.tracking.visibility import VisibilityConfig, certainty


def track_by_flow(
    queries: QueryPoints,
    motion: Motion,
    frame_count: int,
    working_size: Size,
    video_size: Size,
    config: VisibilityConfig,
) -> Tracks:
    """Track query points by the least uncertain flow, without any features.

    Args:
        queries: N points, original pixels.
        motion: The flow of the video.
        frame_count: T.
        working_size: (H, W) of working pixels, which uncertainty is measured in.
        video_size: (H, W) of the original frames.
        config: Up to which uncertainty a point counts as seen.

    Returns:
        N tracks over T frames in original pixels.
    """
    start = rescale(queries.xy.float(), video_size, working_size)
    followed = motion.follow(queries.frame, start, frame_count, working_size)
    xy = rescale(followed.xy, working_size, video_size)
    points = torch.arange(len(queries))
    xy[points, queries.frame] = queries.xy.float()
    sure = certainty(followed.cost, config)
    visibility = (sure >= 0.5) & inside(xy, video_size)
    visibility[points, queries.frame] = True
    return Tracks(xy, visibility, sure * inside(xy, video_size))
