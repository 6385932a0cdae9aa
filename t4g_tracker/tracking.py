"""Tracking: query points are found in every frame by matching features, batched over points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import cells_to_pixels, pixels_to_cells, rescale
from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Tracks, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.matching import cell_vectors, cost_volume, sample_vectors, soft_argmax
from t4g_tracker.polish import polish
from t4g_tracker.visibility import VisibilityConfig, judge

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How a query point is found in a frame."""

    temperature: float = 0.05  # of the softmax in soft-argmax
    window_radius_px: float = 16.0  # reach of the soft-argmax, working pixels
    polish: bool = True  # refine by Lucas-Kanade on the original frames
    polish_reach_px: float = 6.0  # longest move of the polish, pixels at 480p
    polish_window_px: int = 15  # side of the square it compares, pixels at 480p
    points_at_once: int = 512  # cost maps held in memory together

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.window_radius_px <= 0:
            raise ConfigError("tracking: temperature and window_radius_px must be positive")
        if self.polish_window_px < 3 or self.polish_reach_px < 0:
            raise ConfigError("tracking: polish_window_px must be 3 or more and polish_reach_px 0 or more")
        if self.points_at_once < 1:
            raise ConfigError(f"tracking.points_at_once must be at least 1, got {self.points_at_once}")


def track(
    queries: QueryPoints,
    features: FeatureGrid,
    video: Video,
    config: TrackingConfig,
    visibility: VisibilityConfig,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Tracks:
    """Follow query points through all frames, before and after their query frame.

    Each point's feature is compared with every cell of every frame; the peak is read off
    by a windowed soft-argmax. Matching is not sequential, so a point that was hidden is
    found again. The features may be frozen or adapted: this function does not ask.

    Args:
        queries: N points at any frames, original pixels.
        features: Feature grid of the video's T frames.
        video: The original frames.
        config: Soft-argmax and polish.
        visibility: When a point counts as seen.
        device: Where cost maps are computed; None takes the CPU.
        progress: Called with (frames done, frames in all).

    Returns:
        N tracks over T frames in original pixels; in its query frame a point is where it
        was asked for, visible, with confidence 1.

    Source: matching as in DINO-Tracker, arXiv:2403.14548.
    """
    device = device or torch.device("cpu")
    vectors = cell_vectors(features.values.to(device).float())
    start = rescale(queries.xy.float(), video.size, features.working_size)
    cells = pixels_to_cells(start, features.stride_px, features.offset_px).to(device)
    frames = queries.frame.to(device)
    found, similarity = match_frames(vectors, frames, cells, features.stride_px, config, progress)
    miss_px = round_trip(vectors, frames, cells, found, config, features.stride_px) * features.stride_px
    xy = rescale(
        cells_to_pixels(found.cpu(), features.stride_px, features.offset_px),
        features.working_size,
        video.size,
    )
    rows = torch.arange(len(queries))
    xy[rows, queries.frame] = queries.xy.float()
    if config.polish:
        xy = polish(video, queries, xy, config.polish_reach_px, config.polish_window_px)
    seen, confidence = judge(similarity.cpu(), miss_px.cpu(), visibility)
    seen[rows, queries.frame], confidence[rows, queries.frame] = True, 1.0
    return Tracks(xy, seen, confidence)


def match_frames(
    vectors: Tensor,
    frame: Tensor,
    cells: Tensor,
    stride_px: float,
    config: TrackingConfig,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Find points in every frame.

    Args:
        vectors: (T, h, w, C) unit vectors.
        frame: (N,) query frames.
        cells: (N, 2) query positions in cells.
        stride_px: Working pixels per cell.
        config: Soft-argmax.
        progress: Called with (frames done, frames in all).

    Returns:
        (N, T, 2) positions in cells, and (N, T) similarity at the peak.
    """
    queries = sample_vectors(vectors, frame, cells)
    positions, similarities = [], []
    for t, image in enumerate(vectors):
        position, similarity = find(queries, image, stride_px, config)
        positions.append(position)
        similarities.append(similarity)
        if progress is not None:
            progress(t + 1, len(vectors))
    return torch.stack(positions, 1), torch.stack(similarities, 1)


def find(queries: Tensor, image: Tensor, stride_px: float, config: TrackingConfig) -> tuple[Tensor, Tensor]:
    """Find query vectors (P, C) in one frame (h, w, C): positions (P, 2) and similarity (P,)."""
    radius = config.window_radius_px / stride_px
    parts = [
        soft_argmax(cost_volume(some, image), radius, config.temperature)
        for some in queries.split(config.points_at_once)
    ]
    return torch.cat([position for position, _ in parts]), torch.cat([peak for _, peak in parts])


def round_trip(
    vectors: Tensor, frame: Tensor, cells: Tensor, found: Tensor, config: TrackingConfig, stride_px: float
) -> Tensor:
    """How far the way back misses: match each found point in its query frame, (N, T) cells.

    Args:
        vectors: (T, h, w, C) unit vectors.
        frame: (N,) query frames.
        cells: (N, 2) query positions.
        found: (N, T, 2) found positions in cells.
        config: Soft-argmax.
        stride_px: Working pixels per cell.
    """
    count, frame_count, _ = found.shape
    miss = found.new_zeros(count, frame_count)
    times = torch.arange(frame_count, device=found.device)
    for home in frame.unique():
        rows = (frame == home).nonzero().squeeze(1)
        there = sample_vectors(vectors, times.repeat(len(rows)), found[rows].flatten(0, 1))
        back, _ = find(there, vectors[home], stride_px, config)
        miss[rows] = (back.view(len(rows), frame_count, 2) - cells[rows][:, None]).norm(dim=-1)
    return miss
