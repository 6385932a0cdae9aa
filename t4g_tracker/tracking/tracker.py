"""Tracking: find query points in every frame by matching features, and along flow; batched over points."""

from __future__ import annotations

import torch
from torch import Tensor

from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Tracks, Video
from t4g_tracker.matching.head import CostMapHead
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.motion.following import Motion
from t4g_tracker.stage_log import Progress
from t4g_tracker.tracking.anchors import anchor_errors
from t4g_tracker.tracking.flow_alone import complete, track_by_flow, tracks_of
from t4g_tracker.tracking.joining import join, refined
from t4g_tracker.tracking.scene import Scene, cycle_error, find, match_frames, similarity_at
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.visibility import VisibilityConfig, judge


def track(
    queries: QueryPoints,
    features: FeatureGrid,
    video: Video,
    matching: MatchingConfig,
    config: TrackingConfig,
    visibility: VisibilityConfig,
    motion: Motion | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    head: CostMapHead | None = None,
    trust: float = 1.0,
) -> Tracks:
    """Follow query points through all frames, before and after their query frame.

    Each point's feature is compared with every cell of every frame, and a windowed
    soft-argmax locates the peaks. Matching is not sequential, so a point that was hidden
    is found again. Without flow, the best peak of each frame is the answer. With flow, the
    best peaks join the hypotheses of flow over several gaps. In each frame the least
    uncertain of all is kept, where looking less alike than the best match counts as
    uncertainty. Frozen and adapted features are tracked alike.

    Args:
        queries: N points at any frames, original pixels.
        features: Feature grid of the video's T frames.
        video: The original frames.
        matching: How cost maps are read; as in the losses that adapted the features.
        config: What matches cost, and sub-pixel refinement.
        visibility: When a point counts as seen.
        motion: The flow of the video, or None to match alone.
        device: Where cost maps are computed; None takes the CPU.
        progress: Called with (frames done, frames in all).
        head: Of cost maps, fitted with the features; None for a plain softmax.
        trust: How far matches count beside flow, 0..1, with 0 not at all; ``TrackingConfig.trust`` says how
            to know.

    Returns:
        N tracks over T frames in original pixels. In its query frame a point is at its
        query position, visible, with confidence 1.

    Source: matching as in DINO-Tracker, arXiv:2403.14548; flow as in motion/following.py.
    """
    if motion is not None and config.motion and not trust:
        return track_by_flow(
            queries, motion, video.frame_count, features.working_size, video.size, visibility, progress
        )
    device = device or torch.device("cpu")
    scene = Scene.of(features, queries, video.size, matching, head, config.points_at_once, device)
    if motion is not None and config.motion:
        found = join(scene, queries, video, motion, trust, config, progress)
        return tracks_of(found, queries, features.working_size, video.size, visibility)
    peaks, similarity = match_frames(scene, scene.queries(), 1, progress)
    seen, confidence = _judge(scene, peaks[:, :, 0], similarity[:, :, 0], visibility)
    xy = refined(scene, peaks, queries, video, config)[:, :, 0]
    return complete(xy, seen, confidence, queries, video.size)


def _judge(
    scene: Scene, cells: Tensor, similarity: Tensor, config: VisibilityConfig
) -> tuple[Tensor, Tensor]:
    """Visibility and confidence (N, T) of matches (N, T, 2) in cells, by the configured rule."""
    if config.rule == "round-trip":
        return judge(similarity.cpu(), (cycle_error(scene, cells) * scene.stride_px).cpu(), config)
    cells = cells.clone()
    cells[torch.arange(len(cells), device=cells.device), scene.frame] = scene.cells
    similarity = similarity_at(scene, cells)

    def found(frame: int, vectors: Tensor) -> Tensor:
        return find(vectors, scene.image(frame), 1, scene)[0][:, 0]

    error, limit = anchor_errors(cells, similarity, config.anchor_threshold, scene.sample, found)
    return judge(similarity.cpu(), error.cpu() * scene.stride_px, config, limit.cpu() * scene.stride_px)
