"""Tracking: find query points in every frame by matching features, batched over points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from t4g_tracker.coordinates import cells_to_pixels, inside, pixels_to_cells, rescale
from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Tracks, Video
from t4g_tracker.limits import Limits, check_limits
from t4g_tracker.matching.cost_maps import cell_vectors, cost_volume, sample_vectors, soft_argmax, top_peaks
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.motion.following import Matches, Motion
from t4g_tracker.stage_log import Progress
from t4g_tracker.tracking.subpixel import refine_positions
from t4g_tracker.tracking.visibility import VisibilityConfig, judge


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How a query point is found in a frame."""

    motion: bool = True  # join matches with flow, whichever is less uncertain; false: each frame's best match
    candidates: int = 3  # peaks of a cost map that join
    match_cost: float = 1.8  # uncertainty of a match that looks alike and leads back, squared working pixels
    unlike_cost: float = 9.0  # added where similarity is 1 below alike, in proportion
    alike: float = 0.9  # cosine similarity from which a match costs nothing more
    subpixel: bool = True  # refine positions by Lucas-Kanade on the original frames
    subpixel_reach_px: float = 6.0  # longest refinement, pixels at 480p; smaller videos: their own pixels
    subpixel_window_px: int = 15  # side of the square it compares, at every pyramid level
    points_at_once: int = 512  # cost maps held in memory together

    LIMITS: ClassVar[Limits] = {
        "candidates": (1, 100),
        "match_cost": (0, 10_000),
        "unlike_cost": (0, 10_000),
        "alike": (-1, 1),
        "subpixel_reach_px": (0, 1000),
        "subpixel_window_px": (3, 255),
        "points_at_once": (1, 1_000_000),
    }

    def __post_init__(self) -> None:
        check_limits(self, "tracking")


@dataclass(frozen=True)
class _Scene:
    """Features ready to match, and the queries in their cells."""

    grid: Tensor  # (T, C, h, w) features in channels-last memory, any floating dtype
    frame: Tensor  # (N,) query frames
    cells: Tensor  # (N, 2) query positions
    stride_px: float
    matching: MatchingConfig
    config: TrackingConfig

    def image(self, t: int | Tensor) -> Tensor:
        """Unit vectors (h, w, C) of frame ``t``, computed on demand, which bounds memory."""
        return cell_vectors(self.grid[t, None].float())[0]

    def sample(self, frame: Tensor, cells: Tensor) -> Tensor:
        """Unit vectors (P, C) at ``cells`` (P, 2) of frames ``frame`` (P,)."""
        return sample_vectors(self.grid.permute(0, 2, 3, 1), frame, cells)

    @property
    def radius(self) -> float:
        """Reach of the soft-argmax in cells."""
        return self.matching.window_radius_px / self.stride_px


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
) -> Tracks:
    """Follow query points through all frames, before and after their query frame.

    Each point's feature is compared with every cell of every frame, and a windowed
    soft-argmax locates the peaks. Matching is not sequential, so a point that was hidden
    is found again. Without flow, the best peak of each frame is the answer. With flow, the
    best peaks join the hypotheses of flow over several gaps, and in each frame the least
    uncertain of all is kept. Frozen and adapted features are tracked alike.

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

    Returns:
        N tracks over T frames in original pixels. In its query frame a point is at its
        query position, visible, with confidence 1.

    Source: matching as in DINO-Tracker, arXiv:2403.14548; flow as in motion/following.py.
    """
    device = device or torch.device("cpu")
    start = rescale(queries.xy.float(), video.size, features.working_size)
    scene = _Scene(
        features.values.to(device).contiguous(memory_format=torch.channels_last),
        queries.frame.to(device),
        pixels_to_cells(start, features.stride_px, features.offset_px).to(device),
        features.stride_px,
        matching,
        config,
    )
    count = config.candidates if motion is not None and config.motion else 1
    peaks, similarity = match_frames(scene, count, progress)
    matches = _refined(peaks.cpu(), queries, features, video, config)
    rows = torch.arange(len(queries))
    if motion is None or not config.motion:
        xy, flow_cost = matches[:, :, 0], None
    else:
        # Join: matches and flow, the least uncertain in each frame.
        cost = match_costs(scene, peaks, similarity).cpu()
        in_working = rescale(matches, video.size, features.working_size)
        followed = motion.follow(
            queries.frame, start, video.frame_count, features.working_size, Matches(in_working, cost)
        )
        xy, flow_cost = rescale(followed.xy, features.working_size, video.size), followed.cost
    xy[rows, queries.frame] = queries.xy.float()

    # Judge visibility.
    cells = pixels_to_cells(
        rescale(xy, video.size, features.working_size), features.stride_px, features.offset_px
    ).to(peaks.device)
    similarity = similarity_at(scene, cells)
    cycle_error_px = cycle_error(scene, cells) * scene.stride_px
    seen, confidence = judge(similarity.cpu(), cycle_error_px.cpu(), flow_cost, visibility)
    within = inside(xy, video.size)
    seen, confidence = seen & within, confidence * within
    seen[rows, queries.frame], confidence[rows, queries.frame] = True, 1.0
    return Tracks(xy, seen, confidence)


def _refined(
    peaks: Tensor, queries: QueryPoints, features: FeatureGrid, video: Video, config: TrackingConfig
) -> Tensor:
    """Convert matches (N, T, K, 2) in cells to original pixels, refined there if the settings say so."""
    in_working = cells_to_pixels(peaks, features.stride_px, features.offset_px)
    xy = rescale(in_working, features.working_size, video.size)
    if not config.subpixel:
        return xy
    refined = [
        refine_positions(video, queries, xy[:, :, k], config.subpixel_reach_px, config.subpixel_window_px)
        for k in range(xy.shape[2])
    ]
    return torch.stack(refined, 2)


def match_costs(scene: _Scene, peaks: Tensor, similarity: Tensor) -> Tensor:
    """Uncertainty (N, T, K) of matches (N, T, K, 2), squared working pixels; inf where there is none.

    It is a constant, plus the squared cycle error, plus a share that grows as the match looks less alike.
    """
    config = scene.config
    error_px = [cycle_error(scene, peaks[:, :, k]) * scene.stride_px for k in range(peaks.shape[2])]
    unlike = (config.alike - similarity).clamp_min(0)
    return config.match_cost + torch.stack(error_px, 2).square() + config.unlike_cost * unlike


def match_frames(scene: _Scene, count: int, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
    """Find the ``count`` best matches of every query point in every frame.

    Returns:
        (N, T, K, 2) positions in cells, best first, and (N, T, K) similarity.
    """
    queries = scene.sample(scene.frame, scene.cells)
    positions, similarities = [], []
    for t in range(len(scene.grid)):
        position, similarity = find(queries, scene.image(t), count, scene)
        positions.append(position)
        similarities.append(similarity)
        if progress is not None:
            progress(t + 1, len(scene.grid))
    return torch.stack(positions, 1), torch.stack(similarities, 1)


def find(queries: Tensor, image: Tensor, count: int, scene: _Scene) -> tuple[Tensor, Tensor]:
    """Find query vectors (P, C) in one frame (h, w, C): positions (P, K, 2), similarity (P, K)."""
    positions, similarities = [], []
    for chunk in queries.split(scene.config.points_at_once):
        cost = cost_volume(chunk, image)
        peaks, similarity = top_peaks(cost, count, scene.radius)
        refined = [
            soft_argmax(cost, scene.radius, scene.matching.temperature, peaks[:, k])[0] for k in range(count)
        ]
        positions.append(torch.stack(refined, 1))
        similarities.append(similarity)
    return torch.cat(positions), torch.cat(similarities)


def similarity_at(scene: _Scene, cells: Tensor) -> Tensor:
    """Compute the similarity (N, T) of each query point to the features at ``cells`` (N, T, 2)."""
    queries = scene.sample(scene.frame, scene.cells)
    similarities = []
    for t in range(cells.shape[1]):  # all at once would hold a vector for every position of every track
        there = scene.sample(torch.full_like(scene.frame, t), cells[:, t])
        similarities.append((queries * there).sum(-1))
    return torch.stack(similarities, 1)


def cycle_error(scene: _Scene, matches: Tensor, mask: Tensor | None = None) -> Tensor:
    """Measure the cycle error of matches: match each back in its query frame.

    Args:
        scene: Features and queries.
        matches: (N, T, 2) positions in cells.
        mask: (N, T) bool, which of them to measure; None measures all.

    Returns:
        (N, T) distance to the query point in cells; 0 outside the mask.
    """
    error = matches.new_zeros(matches.shape[:2])
    mask = torch.ones_like(error, dtype=torch.bool) if mask is None else mask.to(matches.device)
    for home in scene.frame.unique():
        image = scene.image(home)
        for chunk in (mask & (scene.frame == home)[:, None]).nonzero().split(scene.config.points_at_once):
            row, time = chunk.unbind(1)
            if len(chunk):
                back, _ = find(scene.sample(time, matches[row, time]), image, 1, scene)
                error[row, time] = (back[:, 0] - scene.cells[row]).norm(dim=-1)
    return error
