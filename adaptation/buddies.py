"""Best buddies of frozen features: cells that are each other's best match, of frames that flow does not join.

Source: the preprocessing of DINO-Tracker, arXiv:2403.14548, and its released code. Lengths are given there at
476x854, and scaled here to the working size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from adaptation.prepare import PreparedFeatures
from t4g_tracker.coordinates import Size, cells_to_pixels, centred_offset, length_scale
from t4g_tracker.datatypes import Trajectories

REFERENCE_PIXELS = 476 * 854  # of the size that published lengths are for
BOX_PX = 60.0  # at that size: side of the box around a match that a rival must lie outside of
SAME_OVERLAP = 0.2  # two boxes of a larger intersection over union count as one match
CELLS_AT_ONCE = 1024  # whose distances to all trajectories are held in memory


@dataclass(frozen=True)
class BestBuddies:
    """Pairs of cells of two frames, the earlier frame first; from ``mine_buddies``."""

    pair: Tensor  # (K,) int64, earlier frame times ``frame_count`` plus later frame, ascending
    cells: Tensor  # (K, 2) int32 cell in the earlier and in the later frame, row by row
    weight: Tensor  # (K,) float16, above 0: how alike the two are, and how unlike their rivals
    frame_count: int
    grid: Size  # (h, w) of the cells
    stride_px: float  # working pixels between cells

    def between(self, first: int, second: int) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (B, 2) in two different frames, in working pixels, and weights (B,) of their buddies."""
        number = min(first, second) * self.frame_count + max(first, second)
        begin, end = torch.searchsorted(self.pair, torch.tensor([number, number + 1])).tolist()
        cells = self.cells[begin:end].flip(1) if first > second else self.cells[begin:end]
        first_xy, second_xy = cell_centres(cells, self.grid[1], self.stride_px).unbind(1)
        return first_xy, second_xy, self.weight[begin:end].float()


def cell_centres(cells: Tensor, across: int, stride_px: float) -> Tensor:
    """Centres (..., 2) in working pixels of cells (...) numbered row by row, ``across`` to a row."""
    xy = torch.stack([cells % across, cells // across], -1)
    return cells_to_pixels(xy, stride_px, centred_offset(stride_px))


def reference_scale(size: Size) -> float:
    """The factor from pixels at 476x854, in which lengths are published, to those of ``size`` (H, W)."""
    return length_scale(size, REFERENCE_PIXELS)


def mine_buddies(
    features: PreparedFeatures,
    trajectories: Trajectories,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> BestBuddies:
    """Find the best buddies of every two frames, without those that flow connects already.

    Two cells are kept if the trajectory nearest to the one does not reach the other's frame, and the reverse.
    They weigh more the more alike they are, and less if either has a rival: see ``ambiguity_weight``.

    Args:
        features: Prepared features of T frames.
        trajectories: Working pixels. DINO-Tracker takes them before direct flow has cut them.
        device: Where to compare features. Time grows with the square of T and of the number of cells.
        progress: Called with (pairs of frames done, in all).
    """
    frame_count, _, height, width = features.values.shape
    stride_px = features.working_size[1] / width
    centres = cell_centres(torch.arange(height * width), width, stride_px)
    reach = _reach(trajectories, centres, frame_count)
    box_px = BOX_PX * reference_scale(features.working_size)
    one_match = box_overlap(centres, box_px).to(device) > SAME_OVERLAP

    def vectors(t: int) -> Tensor:
        return normalize(features.values[t].to(device).float().flatten(1).T, dim=1, eps=1e-6)

    pairs, cells, weights = [], [], []
    for first in range(frame_count - 1):
        earlier = vectors(first)
        for second in range(first + 1, frame_count):
            similarity = earlier @ vectors(second).T
            here, there = mutual_best(similarity)
            lost = ~(reach[first, here.cpu(), second] | reach[second, there.cpu(), first])
            here, there = here[lost.to(device)], there[lost.to(device)]
            weight = ambiguity_weight(similarity, here, there, one_match)
            weight = (weight * likeness_weight(similarity[here, there])).half()
            kept = (weight > 0).nonzero().squeeze(1)
            pairs.append(torch.full((len(kept),), first * frame_count + second))
            cells.append(torch.stack([here, there], 1)[kept].int().cpu())
            weights.append(weight[kept].cpu())
            if progress is not None:
                done = first * (2 * frame_count - first - 1) // 2 + second - first
                progress(done, frame_count * (frame_count - 1) // 2)
    return BestBuddies(
        torch.cat([torch.empty(0, dtype=torch.int64), *pairs]),
        torch.cat([torch.empty(0, 2, dtype=torch.int32), *cells]),
        torch.cat([torch.empty(0, dtype=torch.float16), *weights]),
        frame_count,
        (height, width),
        stride_px,
    )


def mutual_best(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns (B,) of an (n, m) similarity that are each other's best."""
    best = similarity.argmax(1)
    rows = (similarity.argmax(0)[best] == torch.arange(len(best), device=best.device)).nonzero().squeeze(1)
    return rows, best[rows]


def likeness_weight(cosine: Tensor) -> Tensor:
    """Weigh buddies by their cosine c: 2 c^3, at least 0."""
    return (2 * cosine**3).clamp_min(0)


def ambiguity_weight(similarity: Tensor, here: Tensor, there: Tensor, one_match: Tensor) -> Tensor:
    """Weigh buddies by how far behind their best rival is, in whichever frame it is nearer.

    A rival is the best cell whose box does not count as the match's own. Published code looks for it among
    the 400 best cells. These are always more than the box covers, so it finds the same.

    Args:
        similarity: (n, n) cosine of the cells of two frames.
        here, there: (B,) its rows and columns that are buddies.
        one_match: (n, n) bool, which cells of a frame count as one match.

    Returns:
        (B,) in 0..1, one half where the rival has 0.79 of the match's similarity.
    """
    rival = similarity[here].masked_fill(one_match[there], 0).amax(1)
    rival_back = similarity.T[there].masked_fill(one_match[here], 0).amax(1)
    ratio = torch.maximum(rival, rival_back) / similarity[here, there].clamp_min(1e-6)
    return torch.sigmoid(27 * (1 - ratio) - 5.7)


def box_overlap(centres: Tensor, side_px: float) -> Tensor:
    """Intersection over union (n, n) of squares of one side around each two of the centres (n, 2)."""
    common = (side_px - (centres[:, None] - centres).abs()).clamp_min(0).prod(-1)
    return common / (2 * side_px**2 - common)


def _reach(trajectories: Trajectories, centres: Tensor, frame_count: int) -> Tensor:
    """Whether the trajectory nearest to a cell in one frame is there in another: (T, n, T) bool."""
    present = trajectories.present(frame_count)
    reach = torch.zeros(frame_count, len(centres), frame_count, dtype=torch.bool)
    for t in range(frame_count):
        which = present[:, t].nonzero().squeeze(1)
        if len(which):
            xy = trajectories.at(which, torch.full_like(which, t))
            nearest = [torch.cdist(some, xy).argmin(1) for some in centres.split(CELLS_AT_ONCE)]
            reach[t] = present[which[torch.cat(nearest)]]
    return reach
