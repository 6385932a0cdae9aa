"""Tracks painted on the video: dots where points are visible, fainter if unsure, rings where hidden."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.threads import in_threads
from t4g_tracker.visualize.colours import point_colours
from t4g_tracker.visualize.painting import dimmed, dot_radius, paint_points, positions, resized
from t4g_tracker.visualize.trails import joined_steps, paint_trails

LONGEST_SIDE_PX, SHORTEST_SIDE_PX = 1920, 1080  # larger videos are painted at no more than this
FAINTEST = 0.25  # opacity of a visible point without any confidence


def overlay_size(size: Size) -> Size:
    """The (H, W) of the overlay of a video of ``size``: the same, or shrunk to fit 1080p."""
    share = min(1.0, LONGEST_SIDE_PX / max(size), SHORTEST_SIDE_PX / min(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def paint_overlay(
    video: Video, tracks: Tracks, queries: QueryPoints, trail_frames: int, dim: float
) -> Iterator[np.ndarray]:
    """Paint every point and its trail on the dimmed video.

    A visible point is a filled dot, opaque at confidence 1 and the fainter the less confident; a hidden
    one is a hollow ring. Trails fade with age. They are painted only between two frames that both show
    the point, since positions of hidden points are guesses, and not across jumps (``joined_steps``).

    Args:
        video: T frames.
        tracks: N points in the same T frames, original pixels.
        queries: The N query points, which decide the colours.
        trail_frames: Length of the trails in frames; 0 for none.
        dim: Brightness of the video behind, 0..1.

    Returns:
        Iterator of T frames (H, W, 3) uint8, at ``overlay_size`` of the video.
    """
    size = overlay_size(video.size)
    xy = positions(tracks.xy, video.size, size)
    visible = tracks.visibility.cpu().numpy()
    opacity = FAINTEST + (1 - FAINTEST) * tracks.confidence.cpu().double().numpy()
    joined = joined_steps(xy, visible, size)
    colours = point_colours(queries)
    radius = dot_radius(size, len(queries))

    def painted(frame: int) -> np.ndarray:
        canvas = dimmed(resized(video.frames[frame], size), dim)
        first = max(0, frame - trail_frames)
        if first < frame:
            past = xy[:, first : frame + 1]
            canvas = paint_trails(canvas, past, joined[:, first:frame], colours, radius, trail_frames)
        paint_points(canvas, xy[:, frame], visible[:, frame], colours, radius, opacity[:, frame])
        return canvas

    return in_threads(painted, range(video.frame_count))  # while earlier ones are encoded
