"""Tracking: find query points in every frame by matching features, batched over points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from t4g_tracker.coordinates import cells_to_pixels, inside, pixels_to_cells, rescale
from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Tracks, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.limits import Limits, check_limits
from t4g_tracker.matching.cost_maps import cell_vectors, cost_volume, sample_vectors, soft_argmax, top_peaks
from t4g_tracker.matching.head import CostMapHead
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.motion.following import Matches, Motion
from t4g_tracker.stage_log import Progress
from t4g_tracker.tracking.anchors import anchor_errors
from t4g_tracker.tracking.subpixel import refine_positions
from t4g_tracker.tracking.visibility import VisibilityConfig, certainty, judge


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How a query point is found in a frame."""

    motion: bool = True  # join matches with flow, whichever is less uncertain; false: each frame's best match
    candidates: int = 3  # peaks of a cost map that join
    match_cost: float = 1.8  # uncertainty of a match that looks alike and leads back, squared working pixels
    cycle_share: float = 0.2  # share of its squared cycle error that is added
    unlike_cost: float = 9.0  # added where its similarity is 1 below alike, in proportion
    alike: float = 0.8  # cosine similarity from which a match costs nothing more
    # added in choosing, where similarity is 1 below that of the best match, in proportion
    appearance_cost: float = 10.0
    trust_from: float = 0.4  # share of held-out trajectories that matching finds, from which matches count
    trust_full: float = 0.75  # such a share from which they count in full
    subpixel: bool = True  # refine positions by Lucas-Kanade on the original frames
    subpixel_reach_px: float = 6.0  # longest refinement, pixels at 480p; smaller videos: their own pixels
    subpixel_window_px: int = 15  # side of the square it compares, at every pyramid level
    points_at_once: int = 512  # cost maps held in memory together

    LIMITS: ClassVar[Limits] = {
        "candidates": (1, 100),
        "match_cost": (0, 10_000),
        "cycle_share": (0, 1000),
        "unlike_cost": (0, 10_000),
        "alike": (-1, 1),
        "appearance_cost": (0, 10_000),
        "trust_from": (0, 1),
        "trust_full": (0, 1),
        "subpixel_reach_px": (0, 1000),
        "subpixel_window_px": (3, 255),
        "points_at_once": (1, 1_000_000),
    }

    def __post_init__(self) -> None:
        check_limits(self, "tracking")
        if self.trust_from >= self.trust_full:
            raise ConfigError(
                f"tracking.trust_from must be below tracking.trust_full, {self.trust_full}, "
                f"got {self.trust_from}"
            )

    def trust(self, found: float | None) -> float:
        """How far matches count, 0..1, if matching finds the share ``found`` of held-out trajectories.

        None, if none was held out, gives one half.
        """
        if found is None:
            return 0.5
        return min(1.0, max(0.0, (found - self.trust_from) / (self.trust_full - self.trust_from)))


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
        trust: How far matches count beside flow, 0..1; ``TrackingConfig.trust`` says how to know.

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
        None if head is None else head.to(device),
    )
    if motion is not None and config.motion:
        xy, seen, confidence = _join(
            scene, queries, features, video, start, motion, trust, visibility, progress
        )
    else:
        peaks, similarity = match_frames(scene, 1, progress)
        seen, confidence = _judge(scene, peaks[:, :, 0], similarity[:, :, 0], visibility)
        xy = _refined(peaks, queries, features, video, config)[:, :, 0]

    # What lies outside the frame is not seen, and the query point is.
    rows = torch.arange(len(queries))
    xy[rows, queries.frame] = queries.xy.float()
    within = inside(xy, video.size)
    seen, confidence = seen & within, confidence * within
    seen[rows, queries.frame], confidence[rows, queries.frame] = True, 1.0
    return Tracks(xy, seen, confidence)


def _join(
    scene: _Scene,
    queries: QueryPoints,
    features: FeatureGrid,
    video: Video,
    start: Tensor,
    motion: Motion,
    trust: float,
    visibility: VisibilityConfig,
    progress: Progress | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Join matches with flow: positions (N, T, 2) in original pixels, visibility and confidence (N, T)."""
    evidence = None
    if trust > 0:
        peaks, similarity = match_frames(scene, scene.config.candidates, progress)
        matches = rescale(
            _refined(peaks, queries, features, video, scene.config), video.size, features.working_size
        )
        evidence = Matches(
            matches,
            match_costs(scene, peaks, similarity).cpu() / trust,
            _unlikeness(scene, features, similarity[:, :, 0], trust * scene.config.appearance_cost),
        )
    followed = motion.follow(queries.frame, start, video.frame_count, features.working_size, evidence)
    seen = followed.cost <= visibility.largest_cost
    xy = rescale(followed.xy, features.working_size, video.size)
    return xy, seen, certainty(followed.cost, visibility)


def _unlikeness(
    scene: _Scene, features: FeatureGrid, best: Tensor, cost: float
) -> Callable[[Tensor, int, Tensor], Tensor]:
    """Make a function that tells what positions cost for looking less alike than the best match (N, T).

    It takes the indices (P,) of points, a frame, and their positions (P, 2) there in working pixels, and
    returns (P,) squared working pixels.
    """
    vectors = scene.sample(scene.frame, scene.cells)

    def unlikeness(points: Tensor, frame: int, xy: Tensor) -> Tensor:
        cells = pixels_to_cells(xy, features.stride_px, features.offset_px).to(vectors.device)
        points = points.to(vectors.device)
        there = scene.sample(torch.full_like(points, frame), cells)
        similarity = (vectors[points] * there).sum(-1)
        return (cost * (best[points, frame] - similarity).clamp_min(0)).cpu()

    return unlikeness


def _refined(
    peaks: Tensor, queries: QueryPoints, features: FeatureGrid, video: Video, config: TrackingConfig
) -> Tensor:
    """Convert matches (N, T, K, 2) in cells to original pixels, refined there if the settings say so."""
    in_working = cells_to_pixels(peaks.cpu(), features.stride_px, features.offset_px)
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

    It is a constant, plus a share of the squared cycle error, plus what grows as the match looks less alike.
    """
    config = scene.config
    error_px = [cycle_error(scene, peaks[:, :, k]) * scene.stride_px for k in range(peaks.shape[2])]
    led_astray = config.cycle_share * torch.stack(error_px, 2).square()
    return config.match_cost + led_astray + config.unlike_cost * (config.alike - similarity).clamp_min(0)


def _judge(
    scene: _Scene, cells: Tensor, similarity: Tensor, config: VisibilityConfig
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
