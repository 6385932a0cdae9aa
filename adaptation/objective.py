"""What one optimisation step minimises: from pairs to cost maps to losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from adaptation.losses import prior
from adaptation.prepare import align
from adaptation.sampling import PairBatch, Search
from adaptation.settings import LossConfig
from t4g_tracker.coordinates import cells_to_pixels, centred_offset, pixels_to_cells
from t4g_tracker.matching.cost_maps import sample_vectors, vote, window_offsets
from t4g_tracker.matching.head import CostMapHead
from t4g_tracker.matching.losses import cell_cross_entropy, huber, window_cross_entropy
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.matching.similarity import frame_similarity, window_similarity


@dataclass(frozen=True)
class CostMaps:
    """Similarity of each source point to every coarse cell of its target frame."""

    queries: Tensor  # (P, C) unit vectors of the source points
    similarity: Tensor  # (P, h * w)
    size: tuple[int, int]  # (h, w)
    stride_px: int

    def best_px(self) -> Tensor:
        """Centre (P, 2) of each map's best cell, working pixels."""
        best = self.similarity.detach().argmax(1)
        cells = torch.stack([best % self.size[1], best // self.size[1]], -1)
        return cells_to_pixels(cells, self.stride_px, centred_offset(self.stride_px))


def cost_maps(adapted: Tensor, search: Search, stride_px: int) -> CostMaps:
    """Search the whole target frame of every point, at stride 8 or coarser.

    A finer grid is pooled to stride 8 first: the whole frame at stride 4 would cost
    sixteen times the window that refines it.
    """
    source = pixels_to_cells(search.source_xy, stride_px, centred_offset(stride_px))
    queries = sample_vectors(adapted.permute(0, 2, 3, 1), search.source, source)
    pool = max(1, 8 // stride_px)
    coarse = avg_pool2d(adapted, pool).float().permute(0, 2, 3, 1)  # channels last, as it is stored
    similarity = frame_similarities(coarse.flatten(1, 2), queries, search)
    return CostMaps(queries, similarity, (coarse.shape[1], coarse.shape[2]), stride_px * pool)


def frame_similarities(cells: Tensor, queries: Tensor, search: Search) -> Tensor:
    """Similarity (P, N) of points (P, C) to all cells of their target frames; cells are (F, N, C)."""
    if search.per_frame:  # one product for all
        return frame_similarity(cells, queries.view(-1, search.per_frame, queries.shape[1])).flatten(0, 1)
    counts = search.target.bincount(minlength=len(cells)).tolist()
    parts = zip(cells.split(1), queries.split(counts), strict=True)
    return torch.cat([frame_similarity(frame, points[None])[0] for frame, points in parts])


def window_logits(
    adapted: Tensor,
    maps: CostMaps,
    search: Search,
    centre: Tensor,
    stride_px: int,
    matching: MatchingConfig,
    head: CostMapHead | None,
) -> tuple[Tensor, Tensor]:
    """Compare each source point with the cells around ``centre`` in its target frame, as tracking does.

    A head needs the map of the whole frame; without one, the cells of the window are enough.

    Args:
        adapted: (F, C, h, w).
        maps: Of the same points.
        search: The points.
        centre: (P, 2) int64 cells.
        stride_px: Of ``adapted``.
        matching: Temperature and window.
        head: Its logits take the place of similarity over temperature.

    Returns:
        (P, K) logits of a softmax, -inf outside the frame, and (P, K, 2) cells.
    """
    _, channels, height, width = adapted.shape
    cells = centre[:, None] + window_offsets(matching.window_radius_px / stride_px, adapted.device)
    x, y = cells.unbind(-1)
    valid = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    row = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    grid = adapted.permute(0, 2, 3, 1)
    if head is None:
        rows = search.target[:, None] * (height * width) + row
        logits = window_similarity(grid.reshape(-1, channels), maps.queries, rows) / matching.temperature
    else:
        cost = maps.similarity
        if maps.stride_px != stride_px:
            cost = frame_similarities(grid.float().flatten(1, 2), maps.queries, search)
        logits = head(cost.view(-1, height, width)).flatten(1).gather(1, row)
    return logits.masked_fill(~valid, float("-inf")), cells


def batch_losses(
    adapted: Tensor,
    frozen: Tensor,
    batch: PairBatch,
    stride_px: int,
    config: LossConfig,
    matching: MatchingConfig,
    head: CostMapHead | None = None,
) -> dict[str, Tensor]:
    """Compute the losses of a batch, unweighted, each a scalar mean.

    A window is centred on the best coarse cell, or on the target if it would not contain it:
    a window without the target teaches nothing about the position inside it. Moving a
    misplaced peak is up to the whole-frame loss.

    Args:
        adapted: (F, C, h, w) adapted features of the batch's frames.
        frozen: (F, C, h', w') frozen features of unit length; only read by the prior.
        batch: Pairs, working pixels.
        stride_px: Of ``adapted``.
        config: Which losses.
        matching: Temperature and window, as tracking reads cost maps.
        head: Likewise; ``cross_entropy``, over the whole frame, does without.

    Returns:
        Name to scalar, for the losses whose weight is not 0.
    """
    maps = cost_maps(adapted, batch, stride_px)
    losses: dict[str, Tensor] = {}
    if config.cross_entropy:
        target = pixels_to_cells(batch.target_xy, maps.stride_px, centred_offset(maps.stride_px))
        losses["cross_entropy"] = cell_cross_entropy(
            maps.similarity, target, maps.size, matching.temperature
        ).mean()
    if config.huber or config.window_cross_entropy:
        target = pixels_to_cells(batch.target_xy, stride_px, centred_offset(stride_px))
        best = pixels_to_cells(maps.best_px(), stride_px, centred_offset(stride_px))
        radius = matching.window_radius_px / stride_px
        near = (best - target).norm(dim=-1, keepdim=True) <= max(radius - 1, 1)
        centre = torch.where(near, best, target).round().long()
        logits, cells = window_logits(adapted, maps, batch, centre, stride_px, matching, head)
        if config.window_cross_entropy:
            losses["window_cross_entropy"] = window_cross_entropy(logits, cells, target, 1.0).mean()
        if config.huber:
            size = (adapted.shape[2], adapted.shape[3])
            losses["huber"] = huber(vote(logits, cells, 1.0), target, size).mean()
    if config.prior:
        losses["prior"] = prior(adapted, align(frozen, adapted.shape[-2:])).mean()
    return losses


def found_positions(
    adapted: Tensor,
    search: Search,
    stride_px: int,
    matching: MatchingConfig,
    head: CostMapHead | None = None,
) -> Tensor:
    """Match each source point in its target frame: (P, 2) working pixels."""
    maps = cost_maps(adapted, search, stride_px)
    offset_px = centred_offset(stride_px)
    centre = pixels_to_cells(maps.best_px(), stride_px, offset_px).round().long()
    logits, cells = window_logits(adapted, maps, search, centre, stride_px, matching, head)
    return cells_to_pixels(vote(logits, cells, 1.0), stride_px, offset_px)
