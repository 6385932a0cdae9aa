"""Losses without flow, between frames of a step: best buddies, and matching there and back.

Each compares four pairs of frames. Source: DINO-Tracker, arXiv:2403.14548, and its released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from adaptation.buddies import BestBuddies, cell_centres, likeness_weight, mutual_best, reference_scale
from adaptation.objective import cost_maps, found_positions
from adaptation.sampling import Search
from adaptation.settings import LossConfig
from t4g_tracker.coordinates import Size, centred_offset, pixels_to_cells
from t4g_tracker.matching.head import CostMapHead
from t4g_tracker.matching.losses import huber
from t4g_tracker.matching.settings import MatchingConfig

FRAME_PAIRS = 4  # compared in a step
FROM_FOREGROUND, FROM_BACKGROUND = 179, 77  # points of a pair of frames, at most
TEMPERATURE = 0.1  # of the contrast between a buddy and all other cells
MINED_PER_STEP, REFINED_PER_STEP = 700, 900  # what sums over buddies are divided by, twice
RETURN_PX = 4.0  # at 476x854: a larger cycle error teaches nothing
RETURN_DECAY = 0.8  # weight of a cycle error, to its power in pixels at 476x854


@dataclass(frozen=True)
class StepFrames:
    """The adapted frames of a step, and what is known about them."""

    adapted: Tensor  # (F, C, h, w)
    frames: Tensor  # (F,) int64 frames of the video, on the CPU
    stride_px: int  # of ``adapted``
    size: Size  # (H, W) working pixels
    foreground: Tensor | None = None  # (F, H, W) bool, on the CPU

    def sample_frame_pairs(self, generator: torch.Generator, distinct: bool) -> list[tuple[int, int]]:
        """Four ordered pairs of the step's frames; the two may be the same unless ``distinct``."""
        count = len(self.frames)
        first = torch.randint(count, (FRAME_PAIRS,), generator=generator)
        other = torch.randint(count - distinct, (FRAME_PAIRS,), generator=generator)
        second = (first + 1 + other) % count if distinct else other
        return list(zip(first.tolist(), second.tolist(), strict=True))

    def choose(self, frame: int, xy: Tensor, generator: torch.Generator) -> Tensor:
        """Choose among positions (K, 2) of a frame at random, most in the foreground: indices (B,)."""
        order = torch.randperm(len(xy), generator=generator)
        if self.foreground is None:
            return order[: FROM_FOREGROUND + FROM_BACKGROUND]
        x, y = xy[order].round().long().unbind(-1)
        inside = self.foreground[frame][y.clamp(0, self.size[0] - 1), x.clamp(0, self.size[1] - 1)]
        return torch.cat([order[inside][:FROM_FOREGROUND], order[~inside][:FROM_BACKGROUND]])


@dataclass(frozen=True)
class _Pairs:
    """Positions of two frames of the step that should be alike."""

    first: Tensor  # (B,) int64 index of the frame
    first_xy: Tensor  # (B, 2) working pixels
    second: Tensor  # (B,)
    second_xy: Tensor  # (B, 2)
    weight: Tensor  # (B,)


def consistency_losses(
    step: StepFrames,
    weights: LossConfig,
    matching: MatchingConfig,
    head: CostMapHead | None,
    buddies: BestBuddies | None,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Compute the losses of this module whose weight is not 0, unweighted scalars by name.

    Args:
        step: The frames.
        weights: Which losses.
        matching, head: How cost maps are read.
        buddies: Of the frozen features; only read by ``frozen_buddies``.
        generator: Makes every choice.
    """
    losses = {}
    if weights.frozen_buddies:
        assert buddies is not None, "the loss frozen_buddies needs mined buddies"
        losses["frozen_buddies"] = frozen_buddy_loss(step, buddies, generator)
    if weights.refined_buddies:
        losses["refined_buddies"] = refined_buddy_loss(step, generator)
    if weights.cycle:
        losses["cycle"] = cycle_loss(step, matching, head, generator)
    return losses


def frozen_buddy_loss(step: StepFrames, buddies: BestBuddies, generator: torch.Generator) -> Tensor:
    """Contrast best buddies of the frozen features, mined beforehand; 0 where frames have none."""
    found = []
    for first, second in step.sample_frame_pairs(generator, distinct=True):
        first_xy, second_xy, weight = buddies.between(int(step.frames[first]), int(step.frames[second]))
        chosen = step.choose(first, first_xy, generator)
        found.append(_pairs(first, first_xy[chosen], second, second_xy[chosen], weight[chosen]))
    return _contrast(step, found) / (2 * MINED_PER_STEP)


def refined_buddy_loss(step: StepFrames, generator: torch.Generator) -> Tensor:
    """Contrast cells that are best buddies by the adapted features themselves, at stride 8 or coarser."""
    pool = max(1, 8 // step.stride_px)
    coarse = avg_pool2d(step.adapted.detach().float(), pool)
    across, stride_px = coarse.shape[-1], step.stride_px * pool
    found = []
    for first, second in step.sample_frame_pairs(generator, distinct=False):
        one, other = (normalize(coarse[frame].flatten(1).T, dim=1, eps=1e-6) for frame in (first, second))
        similarity = one @ other.T
        here, there = mutual_best(similarity)
        weight = likeness_weight(similarity[here, there]).cpu()
        first_xy, second_xy = (cell_centres(cells.cpu(), across, stride_px) for cells in (here, there))
        chosen = step.choose(first, first_xy, generator)
        found.append(_pairs(first, first_xy[chosen], second, second_xy[chosen], weight[chosen]))
    return _contrast(step, found) / (2 * REFINED_PER_STEP)


def cycle_loss(
    step: StepFrames, matching: MatchingConfig, head: CostMapHead | None, generator: torch.Generator
) -> Tensor:
    """Match points to another frame and back, and pull those that nearly return to where they began.

    The way there has no gradient: on the same features it would be compared with itself, which is what the
    other half of the published loss does; that half is 0, hence the factor of one half.

    Args:
        step: The frames.
        matching, head: How cost maps are read.
        generator: Chooses frames and points.

    Returns:
        Scalar: mean Huber distance of the points that return within ``RETURN_PX``; 0 if none does.
    """
    device, (height, width) = step.adapted.device, step.size
    everywhere = cell_centres(torch.arange(height * width), width, 1.0)
    pairs = sorted(step.sample_frame_pairs(generator, distinct=False), key=lambda pair: pair[1])
    points = [everywhere[step.choose(first, everywhere, generator)] for first, _ in pairs]
    counts = torch.tensor([len(some) for some in points])
    first, second = (column.repeat_interleave(counts).to(device) for column in torch.tensor(pairs).unbind(1))
    begin = torch.cat(points).to(device)

    with torch.no_grad():
        there = Search(source=first, target=second, source_xy=begin)
        reached = found_positions(step.adapted, there, step.stride_px, matching, head)
    order = first.argsort(stable=True)
    back = Search(source=second[order], target=first[order], source_xy=reached[order])
    returned = found_positions(step.adapted, back, step.stride_px, matching, head)

    error_px = (returned.detach() - begin[order]).norm(dim=-1) / reference_scale(step.size)
    weight = (error_px <= RETURN_PX) * RETURN_DECAY**error_px
    offset_px = centred_offset(step.stride_px)
    cells, wanted = (pixels_to_cells(xy, step.stride_px, offset_px) for xy in (returned, begin[order]))
    size = (step.adapted.shape[2], step.adapted.shape[3])
    return 0.5 * (weight * huber(cells, wanted, size)).sum() / (weight > 0).sum().clamp_min(1)


def _pairs(first: int, first_xy: Tensor, second: int, second_xy: Tensor, weight: Tensor) -> _Pairs:
    rows = torch.ones(len(weight), dtype=torch.int64)
    return _Pairs(first * rows, first_xy, second * rows, second_xy, weight)


def _contrast(step: StepFrames, parts: list[_Pairs]) -> Tensor:
    """Sum of both ways' weighted cross-entropy of each match against all cells of its frame."""
    names = ("first", "first_xy", "second", "second_xy", "weight")
    first, first_xy, second, second_xy, weight = (
        torch.cat([getattr(part, name) for part in parts]).to(step.adapted.device) for name in names
    )
    if not len(weight):
        return step.adapted.new_zeros((), dtype=torch.float32)
    here, all_there = _compare(step, first, first_xy, second)
    there, all_here = _compare(step, second, second_xy, first)
    alike = (here * there).sum(-1) / TEMPERATURE
    return (weight * (all_there + all_here - 2 * alike)).sum()


def _compare(step: StepFrames, source: Tensor, source_xy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (B, C) of points, and the logarithm (B,) of their summed likeness to all cells of a frame."""
    order = target.argsort(stable=True)
    search = Search(source=source[order], target=target[order], source_xy=source_xy[order])
    maps = cost_maps(step.adapted, search, step.stride_px)
    back = order.argsort()
    return maps.queries[back], (maps.similarity / TEMPERATURE).logsumexp(1)[back]
