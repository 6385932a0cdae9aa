"""Matching in a video: query points found in every frame, and found matches matched back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, cells_to_pixels, pixels_to_cells, rescale
from t4g_tracker.datatypes import FeatureGrid, QueryPoints
from t4g_tracker.matching.cost_maps import cell_vectors, cost_volume, sample_vectors, soft_argmax, top_peaks
from t4g_tracker.matching.head import CostMapHead
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.stage_log import Progress
from t4g_tracker.threads import Item, Result, in_threads


@dataclass(frozen=True)
class Scene:
    """Features ready to match, and the queries in their cells."""

    grid: Tensor  # (T, C, h, w) features in channels-last memory, any floating dtype
    frame: Tensor  # (N,) query frames
    cells: Tensor  # (N, 2) query positions
    stride_px: float
    offset_px: float
    working_size: Size
    matching: MatchingConfig
    head: CostMapHead | None
    points_at_once: int

    @classmethod
    def of(
        cls,
        features: FeatureGrid,
        queries: QueryPoints,
        size: Size,
        matching: MatchingConfig,
        head: CostMapHead | None = None,
        points_at_once: int = 512,
        device: torch.device | None = None,
    ) -> Scene:
        """Make features and queries ready to match.

        Args:
            features: The grid of T frames.
            queries: N points, pixels of ``size``.
            size: (H, W) that they are in.
            matching: How cost maps are read.
            head: Of cost maps, fitted with the features; None for a plain softmax.
            points_at_once: Cost maps held in memory together.
            device: Where to match; None takes that of the features.
        """
        device = device or features.values.device
        start = rescale(queries.xy.float(), size, features.working_size)
        return cls(
            features.values.to(device).contiguous(memory_format=torch.channels_last),
            queries.frame.to(device),
            pixels_to_cells(start, features.stride_px, features.offset_px).to(device),
            features.stride_px,
            features.offset_px,
            features.working_size,
            matching,
            None if head is None else head.to(device),
            points_at_once,
        )

    def subset(self, rows: Tensor) -> Scene:
        """The same features with the queries of the indices ``rows`` alone."""
        rows = rows.to(self.frame.device)
        return replace(self, frame=self.frame[rows], cells=self.cells[rows])

    def image(self, t: int | Tensor) -> Tensor:
        """Unit vectors (h, w, C) of frame ``t``, computed on demand, which bounds memory."""
        return cell_vectors(self.grid[t, None].float())[0]

    def sample(self, frame: Tensor, cells: Tensor) -> Tensor:
        """Unit vectors (P, C) at ``cells`` (P, 2) of frames ``frame`` (P,)."""
        return sample_vectors(self.grid.permute(0, 2, 3, 1), frame, cells)

    def sample_at(self, frame: int, xy: Tensor) -> Tensor:
        """Unit vectors (P, C) at positions ``xy`` (P, 2), working pixels, of one frame."""
        cells = pixels_to_cells(xy, self.stride_px, self.offset_px).to(self.grid.device)
        return self.sample(torch.full((len(cells),), frame, device=cells.device), cells)

    def queries(self) -> Tensor:
        """Unit vectors (N, C) of the query points."""
        return self.sample(self.frame, self.cells)

    def in_pixels(self, cells: Tensor) -> Tensor:
        """Convert positions in cells to working pixels, on the CPU."""
        return cells_to_pixels(cells.cpu(), self.stride_px, self.offset_px)

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply a function to items in order: on the CPU spread over its cores, elsewhere one by one."""
        return in_threads(function, items) if self.grid.device.type == "cpu" else map(function, items)

    @property
    def radius(self) -> float:
        """Reach of the soft-argmax in cells."""
        return self.matching.window_radius_px / self.stride_px


def match_frames(
    scene: Scene, vectors: Tensor, count: int, progress: Progress | None = None
) -> tuple[Tensor, Tensor]:
    """Find the ``count`` best matches of every vector (N, C) in every frame.

    Returns:
        (N, T, K, 2) positions in cells, best first, and (N, T, K) similarity.
    """
    frames = range(len(scene.grid))

    def found(t: int) -> tuple[Tensor, Tensor]:
        return find(vectors, scene.image(t), count, scene)

    parts = []
    for part in scene.each(found, frames):
        parts.append(part)
        if progress is not None:
            progress(len(parts), len(frames))
    positions, similarities = zip(*parts, strict=True)
    return torch.stack(positions, 1), torch.stack(similarities, 1)


@torch.no_grad()
def find(vectors: Tensor, image: Tensor, count: int, scene: Scene) -> tuple[Tensor, Tensor]:
    """Find vectors (P, C) in one frame (h, w, C): positions (P, K, 2), similarity (P, K)."""
    positions, similarities = [], []
    for chunk in vectors.split(scene.points_at_once):
        cost = cost_volume(chunk, image)
        peaks, similarity = top_peaks(cost, count, scene.radius)
        logits, temperature = cost, scene.matching.temperature
        if scene.head is not None:
            logits, temperature = scene.head(cost), 1.0
        refined = [soft_argmax(logits, scene.radius, temperature, peaks[:, k])[0] for k in range(count)]
        positions.append(torch.stack(refined, 1))
        similarities.append(similarity)
    return torch.cat(positions), torch.cat(similarities)


def similarity_at(scene: Scene, cells: Tensor) -> Tensor:
    """Compute the similarity (N, T) of each query point to the features at ``cells`` (N, T, 2)."""
    queries = scene.queries()
    similarities = []
    for t in range(cells.shape[1]):  # all at once would hold a vector for every position of every track
        there = scene.sample(torch.full_like(scene.frame, t), cells[:, t])
        similarities.append((queries * there).sum(-1))
    return torch.stack(similarities, 1)


def cycle_error(scene: Scene, matches: Tensor) -> Tensor:
    """Measure the cycle error of matches in cells: match each back in its query frame.

    Args:
        scene: Features and queries.
        matches: (N, T, 2), or (N, T, K, 2) of several matches for a point and frame.

    Returns:
        (N, T) or (N, T, K) distance to the query point in cells.
    """
    error = matches.new_zeros(matches.shape[:-1])
    for home in scene.frame.unique():
        image = scene.image(home)

        def away(index: Tensor, image: Tensor = image) -> Tensor:
            row, time = index[:, 0], index[:, 1]
            back, _ = find(scene.sample(time, matches[tuple(index.T)]), image, 1, scene)
            return (back[:, 0] - scene.cells[row]).norm(dim=-1)

        mine = (scene.frame == home).view(-1, *[1] * (error.ndim - 1)).expand_as(error).nonzero()
        chunks = mine.split(scene.points_at_once)
        for index, found in zip(chunks, scene.each(away, chunks), strict=True):
            error[tuple(index.T)] = found
    return error
