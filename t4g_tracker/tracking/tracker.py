"""Tracking: find query points in every frame by matching features, batched over points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from t4g_tracker.coordinates import cells_to_pixels, inside, pixels_to_cells, rescale
from t4g_tracker.datatypes import FeatureGrid, FlowSequence, QueryPoints, Tracks, Video
from t4g_tracker.limits import Limits, check_limits
from t4g_tracker.matching.cost_maps import cell_vectors, cost_volume, sample_vectors, soft_argmax, top_peaks
from t4g_tracker.matching.head import CostMapHead
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.stage_log import Progress
from t4g_tracker.tracking.anchors import anchor_errors
from t4g_tracker.tracking.chaining import chain_query_points, chained_cycle_error
from t4g_tracker.tracking.paths import Candidates, choose_paths
from t4g_tracker.tracking.subpixel import refine_positions
from t4g_tracker.tracking.visibility import VisibilityConfig, judge


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How a query point is found in a frame."""

    path: bool = True  # choose among candidates by their path along the flow; false: the best match
    candidates: int = 5  # peaks of a cost map that a path may go through
    jump_cost: float = 1.0  # cost of a step that leaves the flow, in units of cosine similarity
    jump_px: float = 12.0  # a step this far off the flow costs jump_cost, a shorter one less; working pixels
    drift_cost: float = 0.3  # similarity subtracted where flow drifted off a good match; 0: none
    drift_px: float = 2.0  # cycle error of flow up to which it has not drifted, working pixels
    subpixel: bool = True  # refine positions by Lucas-Kanade on the original frames
    subpixel_reach_px: float = 6.0  # longest refinement, pixels at 480p; smaller videos: their own pixels
    subpixel_window_px: int = 15  # side of the square it compares, at every pyramid level
    points_at_once: int = 512  # cost maps held in memory together

    LIMITS: ClassVar[Limits] = {
        "candidates": (1, 100),
        "jump_cost": (0, 1000),
        "jump_px": (0.01, 10_000),
        "drift_cost": (0, 1000),
        "drift_px": (0.01, 10_000),
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
    head: CostMapHead | None

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
    flow: FlowSequence | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    head: CostMapHead | None = None,
) -> Tracks:
    """Follow query points through all frames, before and after their query frame.

    Each point's feature is compared with every cell of every frame, and a windowed
    soft-argmax locates the peaks. Matching is not sequential, so a point that was hidden
    is found again. Without flow, the best peak of each frame is the answer. With flow, the
    best peaks and the point carried along the flow are candidates, and the best path
    through all frames chooses. Frozen and adapted features are tracked alike.

    Args:
        queries: N points at any frames, original pixels.
        features: Feature grid of the video's T frames.
        video: The original frames.
        matching: How cost maps are read; as in the losses that adapted the features.
        config: Path and sub-pixel refinement.
        visibility: When a point counts as seen.
        flow: T - 1 steps of optical flow, or None to match alone.
        device: Where cost maps are computed; None takes the CPU.
        progress: Called with (frames done, frames in all).
        head: Of cost maps, fitted with the features; None for a plain softmax.

    Returns:
        N tracks over T frames in original pixels. In its query frame a point is at its
        query position, visible, with confidence 1.

    Source: matching as in DINO-Tracker, arXiv:2403.14548; the path search is ours.
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
        None if head is None else head.to(device),
    )
    # Match: along paths where there is flow, else frame by frame.
    if flow is not None and config.path:
        cells, similarity = _follow_paths(scene, queries, features, video, flow, start, progress)
    else:
        peaks, peak_similarity = match_frames(scene, 1, progress)
        cells, similarity = peaks[:, :, 0], peak_similarity[:, :, 0]
    seen, confidence = _judge(scene, cells, similarity, visibility)

    # Refine in original pixels.
    xy = rescale(
        cells_to_pixels(cells.cpu(), features.stride_px, features.offset_px),
        features.working_size,
        video.size,
    )
    rows = torch.arange(len(queries))
    xy[rows, queries.frame] = queries.xy.float()
    if config.subpixel:
        xy = refine_positions(video, queries, xy, config.subpixel_reach_px, config.subpixel_window_px)

    # What lies outside the frame is not seen, and the query point is.
    within = inside(xy, video.size)
    seen, confidence = seen & within, confidence * within
    seen[rows, queries.frame], confidence[rows, queries.frame] = True, 1.0
    return Tracks(xy, seen, confidence)


def _judge(
    scene: _Scene, cells: Tensor, similarity: Tensor, config: VisibilityConfig
) -> tuple[Tensor, Tensor]:
    """Visibility and confidence (N, T) of positions (N, T, 2) in cells, by the configured rule."""
    if config.rule == "round-trip":
        return judge(similarity.cpu(), (cycle_error(scene, cells) * scene.stride_px).cpu(), config)
    cells = cells.clone()
    cells[torch.arange(len(cells), device=cells.device), scene.frame] = scene.cells
    similarity = similarity_at(scene, cells)

    def found(frame: int, vectors: Tensor) -> Tensor:
        return find(vectors, scene.image(frame), 1, scene)[0][:, 0]

    error, limit = anchor_errors(cells, similarity, config.anchor_threshold, scene.sample, found)
    return judge(similarity.cpu(), error.cpu() * scene.stride_px, config, limit.cpu() * scene.stride_px)


def _follow_paths(
    scene: _Scene,
    queries: QueryPoints,
    features: FeatureGrid,
    video: Video,
    flow: FlowSequence,
    start: Tensor,
    progress: Progress | None,
) -> tuple[Tensor, Tensor]:
    """Positions (N, T, 2) in cells and similarity (N, T) along the most plausible paths."""
    peaks, similarity = match_frames(scene, scene.config.candidates, progress)
    carried = rescale(chain_query_points(queries, flow, video.size).xy, video.size, features.working_size)
    chained = pixels_to_cells(carried, features.stride_px, features.offset_px).to(peaks.device)
    cells = torch.cat([chained[:, :, None], peaks], 2)
    similarity = torch.cat([similarity_at(scene, chained)[..., None], similarity], 2)
    candidates = Candidates(
        cells_to_pixels(cells.cpu(), features.stride_px, features.offset_px), similarity.cpu()
    )
    flow_error_px = chained_cycle_error(carried, queries.frame, start, flow, features.working_size)
    penalised = candidates.similarity.clone()
    penalised[:, :, 0] -= scene.config.drift_cost * _drift(scene, flow_error_px, peaks[:, :, 0])
    index = choose_paths(
        replace(candidates, similarity=penalised),
        queries.frame,
        start,
        flow,
        features.working_size,
        scene.config.jump_cost,
        scene.config.jump_px,
    )
    xy, similarity = candidates.at(index)
    return pixels_to_cells(xy, features.stride_px, features.offset_px).to(peaks.device), similarity


def _drift(scene: _Scene, flow_error_px: Tensor, matches: Tensor) -> Tensor:
    """How surely chained flow has drifted off each point, 0..1, (N, T).

    Flow has drifted where its cycle error is large while that of the best match is small. On smooth
    surfaces both are large; then flow is the better guess.

    Args:
        scene: Features and queries.
        flow_error_px: (N, T) cycle error of chained flow, working pixels.
        matches: (N, T, 2) best matches, cells.
    """
    allowed = scene.config.drift_px
    drift = ((flow_error_px - allowed) / (2 * allowed)).clamp(0, 1)  # full at three times what is allowed
    match_error_px = cycle_error(scene, matches, drift > 0).cpu() * scene.stride_px
    return drift * torch.exp(-((match_error_px / (2 * allowed)) ** 2))


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


@torch.no_grad()
def find(queries: Tensor, image: Tensor, count: int, scene: _Scene) -> tuple[Tensor, Tensor]:
    """Find query vectors (P, C) in one frame (h, w, C): positions (P, K, 2), similarity (P, K)."""
    positions, similarities = [], []
    for chunk in queries.split(scene.config.points_at_once):
        cost = cost_volume(chunk, image)
        peaks, similarity = top_peaks(cost, count, scene.radius)
        logits, temperature = cost, scene.matching.temperature
        if scene.head is not None:
            logits, temperature = scene.head(cost), 1.0
        refined = [soft_argmax(logits, scene.radius, temperature, peaks[:, k])[0] for k in range(count)]
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
