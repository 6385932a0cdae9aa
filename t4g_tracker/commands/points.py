"""Reading what a command tracks: the video, its query points, their true tracks, and masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from t4g_tracker.commands.arguments import PointsRequest
from t4g_tracker.commands.track import TrackRequest
from t4g_tracker.coordinates import inside, working_size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import QueryError, warn
from t4g_tracker.features.extractor import check_features
from t4g_tracker.flow.estimator import check_named_weights
from t4g_tracker.hardware import pick_device
from t4g_tracker.inputs.masks import read_foreground, read_mask
from t4g_tracker.inputs.queries import grid_queries, read_queries
from t4g_tracker.inputs.video import read_video
from t4g_tracker.memory import long_arrays
from t4g_tracker.outputs.track_files import TracksFile, read_tracks_file
from t4g_tracker.pipeline import Config, frame_bytes
from t4g_tracker.storage.long_arrays import LongArrays


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run reads."""

    video: Video  # T frames
    queries: QueryPoints  # N query points
    truth: Tracks | None  # true tracks of the same points, if known
    foreground: Tensor | None = None  # (T, H, W) bool at the working size
    arrays: LongArrays | None = None  # where the video's frames are held


def read_inputs(request: TrackRequest, config: Config) -> Inputs:
    """Read what a run needs; device and weights too are checked, before any long work.

    Raises:
        TrackerError: If something is missing, cannot be used, or does not fit the rest.
    """
    pick_device(request.device)
    check_named_weights(config.flow)
    inputs = read_points(request, config, long_arrays(config.memory, request.cache))
    inputs = replace(inputs, foreground=read_foreground_of(request, inputs.video, config))
    check_features(config.features)
    return inputs


def read_points(request: PointsRequest, config: Config, arrays: LongArrays) -> Inputs:
    """Read the video of a request into ``arrays``, its query points, and their true tracks if it gives any.

    Raises:
        VideoError, QueryError: If one cannot be used, or they do not belong together.
    """
    video = request_video(request, config, arrays)
    queries = request_queries(request, video)
    return Inputs(video, queries, request_truth(request, video, queries), arrays=arrays)


def request_video(request: PointsRequest, config: Config, arrays: LongArrays) -> Video:
    """Read the video of a request, or its part, into ``arrays``."""
    return read_video(
        request.video,
        request.first_frames,
        frames=request.frames,
        start_frame=request.start_frame,
        frame_bytes=frame_bytes(config),
        arrays=arrays,
    )


def request_queries(request: PointsRequest, video: Video) -> QueryPoints:
    """Read the query points of a request from a file, or make a grid."""
    if request.queries is not None:
        return read_queries(request.queries, video)
    assert request.grid is not None
    mask = None if request.mask is None else read_mask(request.mask, video, mask_object=request.mask_object)
    frame = 0 if request.grid_frame is None else request.grid_frame - video.start_frame
    return grid_queries(video, request.grid, frame, mask)


def request_truth(request: PointsRequest, video: Video, queries: QueryPoints) -> Tracks | None:
    """Read the true tracks of a request, if it gives any.

    Raises:
        QueryError: If they are not of the same points and video.
    """
    if request.truth is None:
        return None
    given = read_tracks_file(request.truth)
    first, count = _place_in_truth(given, request, video), video.frame_count
    truth = given.tracks.part(first, count)
    if given.size != video.size or first < 0 or truth.xy.shape[1] != count:
        (height, width), frames = given.size, given.tracks.xy.shape[1]
        raise QueryError(
            f"{request.truth}: true tracks are of {frames} frames of {width}x{height}, but "
            f"{video.source} has {count} of {video.size[1]}x{video.size[0]}; give the clip's own"
        )
    annotated = given.queries
    same = len(annotated) == len(queries) and bool(
        ((annotated.frame - first == queries.frame) & ((annotated.xy - queries.xy).norm(dim=1) < 0.5)).all()
    )
    if not same:
        raise QueryError(
            f"{request.truth}: its query points are not the ones to track, in the same order; "
            "give this file itself as --queries, or drop --gt"
        )
    _warn_of_doubts(request.truth, truth, queries, video)
    return truth


def _place_in_truth(given: TracksFile, request: PointsRequest, video: Video) -> int:
    """Which frame of the true tracks is the video's first, if they may be of more than its frames."""
    frames = given.tracks.xy.shape[1]
    if frames == video.frame_count:
        return 0
    first = video.start_frame - given.start_frame
    fits = first >= 0 and first + video.frame_count <= frames
    return first if fits else request.skipped_frames


def _warn_of_doubts(path: Path, truth: Tracks, queries: QueryPoints, video: Video) -> None:
    """Warn of true tracks that do not pass through their query points, or leave the frame while seen."""
    point = torch.arange(len(queries))
    apart_px = (truth.xy[point, queries.frame] - queries.xy).norm(dim=1)
    apart_px[~truth.visibility[point, queries.frame]] = 0
    worst = int(apart_px.argmax())
    if apart_px[worst] > max(2.0, max(video.size) / 100):
        frame = int(queries.frame[worst]) + video.start_frame
        warn(
            f"{path}: the true track of {queries.names[worst]} is {apart_px[worst]:.0f} px from its query "
            f"point in frame {frame}; check the frames, the order and the pixels of the tracks"
        )
    outside = int((truth.visibility & ~inside(truth.xy, video.size)).sum())
    if outside:
        warn(f"{path}: {outside} positions are outside the frame but visible; mark them hidden")


def read_foreground_of(request: TrackRequest, video: Video, config: Config) -> Tensor | None:
    """Read the masks of a request, if it gives any, at the working size.

    Raises:
        VideoError, QueryError: If they do not fit the video.
    """
    if request.foreground is None:
        return None
    size = working_size(video.size, config.working_size)
    count = video.frame_count if request.frames else request.first_frames
    return read_foreground(
        request.foreground, video, size, count, request.skipped_frames, request.mask_object
    )
