"""Reading the points that a command tracks, their true tracks, and masks."""

from __future__ import annotations

from torch import Tensor

from t4g_tracker.commands.arguments import PointsRequest
from t4g_tracker.commands.track import TrackRequest
from t4g_tracker.coordinates import working_size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import QueryError
from t4g_tracker.masks import read_foreground, read_mask
from t4g_tracker.pipeline import Config
from t4g_tracker.queries import grid_queries, read_queries
from t4g_tracker.track_files import read_tracks_npz


def request_queries(request: PointsRequest, video: Video) -> QueryPoints:
    """Read the query points of a request from a file, or make a grid."""
    if request.queries is not None:
        return read_queries(request.queries, video)
    assert request.grid is not None
    mask = None if request.mask is None else read_mask(request.mask, video)
    return grid_queries(video, request.grid, request.grid_frame, mask)


def request_truth(request: PointsRequest, video: Video, queries: QueryPoints) -> Tracks | None:
    """Read the true tracks of a request, if it gives any.

    Raises:
        QueryError: If they are not of the same points and video.
    """
    if request.truth is None:
        return None
    truth, annotated, size, _ = read_tracks_npz(request.truth)
    if request.first_frames:
        truth = truth.first(request.first_frames)
    elif request.frames and truth.xy.shape[1] != video.frame_count:  # of the whole video
        truth = truth.part(request.skipped_frames, video.frame_count)
    if size != video.size or truth.xy.shape[1] != video.frame_count:
        raise QueryError(
            f"{request.truth}: true tracks are of {truth.xy.shape[1]} frames of {size[1]}x{size[0]}, but "
            f"{video.source} has {video.frame_count} of {video.size[1]}x{video.size[0]}; give the clip's own"
        )
    same = len(annotated) == len(queries) and bool(
        ((annotated.frame == queries.frame) & ((annotated.xy - queries.xy).norm(dim=1) < 0.5)).all()
    )
    if not same:
        raise QueryError(
            f"{request.truth}: its query points are not the ones to track, in the same order; "
            "give this file itself as --queries, or drop --gt"
        )
    return truth


def read_foreground_of(request: TrackRequest, video: Video, config: Config) -> Tensor | None:
    """Read the masks of a request, if it gives any, at the working size.

    Raises:
        VideoError, QueryError: If they do not fit the video.
    """
    if request.foreground is None:
        return None
    size = working_size(video.size, config.working_size)
    count = video.frame_count if request.frames else request.first_frames
    return read_foreground(request.foreground, video, size, count, request.skipped_frames)
