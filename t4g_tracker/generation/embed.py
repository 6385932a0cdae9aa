"""Tracks that a generated video carries: matching with the features of its own last denoising step.

No second noising and no second pass: the features are those that made the last step of the video.

Source: supplement 3.2 of Track4Gen, arXiv:2412.06016.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Tracks, Video
from t4g_tracker.features.networks import tiled_grid
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.tracking.scene import Scene, cycle_error, match_frames
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

ROUND_TRIP_CELLS = 1.0  # a match that leads back this near counts as consistent


@dataclass(frozen=True)
class EmbeddedTracks:
    """Tracks by a video's own features, and how far these agree with themselves."""

    tracks: Tracks  # N points in T frames, pixels of the generated video
    consistency: float  # share of matches whose round trip closes within ``ROUND_TRIP_CELLS``, 0..1


@contextmanager
def last_output(module: nn.Module, wanted: bool = True) -> Iterator[list[Any]]:
    """Keep the latest output of a module, and only that; nothing if it is not wanted.

    Yields:
        A list, empty until the module has run, then of one output.
    """
    kept: list[Any] = []

    def keep(_: nn.Module, inputs: Any, output: Any) -> None:
        kept[:] = [output]

    hook = module.register_forward_hook(keep) if wanted else None
    try:
        yield kept
    finally:
        if hook is not None:
            hook.remove()


@torch.no_grad()
def feature_grid(features: Tensor, refiner: Refiner | None, size: tuple[int, int]) -> FeatureGrid:
    """Make a feature grid of an up-block's output (T, C, h, w), refined if there is a refiner.

    Raises:
        ConfigError: If its cells are not square at this (H, W).
    """
    if refiner is not None:
        features = refiner(features.to(refiner.device, refiner.dtype)).float().cpu()
    return tiled_grid(features, size, "the UNet's up-block")


def embedded_tracks(grid: FeatureGrid, video: Video, queries: QueryPoints) -> EmbeddedTracks:
    """Track query points by matching alone: no adaptation, no flow, no sub-pixel refinement.

    Args:
        grid: Features of the video's T frames.
        video: The generated video.
        queries: N points, its pixels.
    """
    tracking = TrackingConfig(motion=False, subpixel=False)
    found = track(queries, grid, video, MatchingConfig(), tracking, VisibilityConfig())
    return EmbeddedTracks(found, consistency(grid, queries, video.size))


def consistency(grid: FeatureGrid, queries: QueryPoints, size: tuple[int, int]) -> float:
    """Measure how often the match of a point is matched back to within a cell of where it came from.

    A video that stands still comes near 1, so it says nothing of motion.

    Args:
        grid: Features of T frames, at least 2.
        queries: N points, pixels of ``size``.
        size: (H, W).

    Returns:
        Share, 0..1, over all points and all frames but the point's own.
    """
    scene = Scene.of(grid, queries, size, MatchingConfig())
    matches, _ = match_frames(scene, scene.queries(), 1)
    closes = cycle_error(scene, matches[:, :, 0]) <= ROUND_TRIP_CELLS
    others = torch.ones_like(closes)
    others[torch.arange(len(queries)), queries.frame] = False
    return float(closes[others].float().mean())
