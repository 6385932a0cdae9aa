"""Sampling training pairs from trajectories, and holding out trajectories that measure progress."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import Trajectories
from t4g_tracker.errors import TrackerError


@dataclass(frozen=True)
class PairBatch:
    """Pairs of positions of the same physical point in two frames of the batch.

    Pairs are grouped by target frame: rows ``g * P .. (g + 1) * P - 1`` are to be found
    in ``frames[g]``, so one matrix product per target frame makes their cost maps.
    """

    frames: Tensor  # (F,) int64 distinct frame indices of the video
    source: Tensor  # (F * P,) int64 index into ``frames`` of the frame a point comes from
    source_xy: Tensor  # (F * P, 2) working pixels
    target_xy: Tensor  # (F * P, 2) working pixels, in frame ``frames[g]``

    def to(self, device: torch.device) -> PairBatch:
        """The same batch with its tensors on ``device``."""
        return PairBatch(
            self.frames.to(device),
            self.source.to(device),
            self.source_xy.to(device),
            self.target_xy.to(device),
        )


def hold_out(
    trajectories: Trajectories, size: Size, share: float, generator: torch.Generator, block_px: int = 48
) -> tuple[Trajectories, Trajectories]:
    """Hold out the trajectories that start in randomly chosen blocks of the frame.

    Whole blocks are held out, because a trajectory 4 px away from a trained one says little
    about untrained points.

    Args:
        trajectories: All of them.
        size: (H, W) in working pixels.
        share: Share of blocks to hold out, 0..1.
        generator: Chooses the blocks.
        block_px: Side of a block, working pixels.

    Returns:
        Trajectories to train on, and held-out ones. With ``share`` 0 none is held out;
        otherwise neither is empty if there are at least two trajectories.
    """
    across = -(-size[1] // block_px)
    blocks = across * -(-size[0] // block_px)
    chosen = torch.zeros(blocks, dtype=torch.bool)
    chosen[torch.randperm(blocks, generator=generator)[: max(1, round(share * blocks))]] = share > 0
    begin = trajectories.xy[trajectories.first].clamp_min(0)
    column, row = (begin / block_px).long().unbind(-1)
    held_out = chosen[(row * across + column).clamp_max(blocks - 1)]
    if share > 0 and (held_out.all() or not held_out.any()):
        held_out = torch.zeros(len(trajectories), dtype=torch.bool)
        held_out[:: max(2, round(1 / share))] = True
    return trajectories.subset(~held_out), trajectories.subset(held_out)


def sample_frames(frame_count: int, count: int, generator: torch.Generator) -> Tensor:
    """Sample ``count`` distinct frames, spread over a stretch of random length.

    Every length from ``count`` frames to the whole video is equally likely, so both near and
    distant frames are paired.

    Returns:
        (min(count, frame_count),) int64, ascending.
    """
    count = min(count, frame_count)
    stretch = int(torch.randint(count, frame_count + 1, (), generator=generator))
    begin = int(torch.randint(0, frame_count - stretch + 1, (), generator=generator))
    chosen = torch.randperm(stretch, generator=generator)[:count]
    return begin + chosen.sort().values


def sample_pairs(
    trajectories: Trajectories,
    frame_count: int,
    frames_per_step: int,
    pairs_per_frame: int,
    generator: torch.Generator,
    foreground: Tensor | None = None,
    attempts: int = 100,
) -> PairBatch:
    """Sample frames, and for each of them the same number of pairs that end in it.

    Args:
        trajectories: What to sample from.
        frame_count: T of the video.
        frames_per_step: F, at least 2.
        pairs_per_frame: P pairs to find in each frame.
        generator: Makes every choice.
        foreground: (M,) bool; if given, half of the pairs come from these trajectories,
            unless none of them is usable.
        attempts: Sets of frames to try before giving up.

    Returns:
        A batch of F * P pairs.

    Raises:
        TrackerError: If no sampled set of frames shares trajectories in every frame.
    """
    for _ in range(attempts):
        frames = sample_frames(frame_count, frames_per_step, generator)
        alive = trajectories.present(frames)
        usable = alive & (alive.sum(1, keepdim=True) >= 2)
        if not bool(usable.any(0).all()):
            continue
        source, source_xy, target_xy = [], [], []
        for g in range(len(frames)):
            which = _sample_trajectories(usable[:, g], pairs_per_frame, generator, foreground)
            others = alive[which].clone()
            others[:, g] = False
            chance = torch.rand(others.shape, generator=generator).masked_fill(~others, -1)
            origin = chance.argmax(1)
            source.append(origin)
            source_xy.append(trajectories.at(which, frames[origin]))
            target_xy.append(trajectories.at(which, frames[g].expand_as(which)))
        return PairBatch(frames, torch.cat(source), torch.cat(source_xy), torch.cat(target_xy))
    raise TrackerError(
        "the trajectories are too short to pair frames; lower adaptation.frames_per_step, or raise "
        "trajectories.cycle_threshold_px for longer ones"
    )


def _sample_trajectories(
    usable: Tensor, count: int, generator: torch.Generator, foreground: Tensor | None
) -> Tensor:
    """Sample ``count`` indices with replacement among usable ones, half of them in the foreground."""

    def sample(mask: Tensor, size: int) -> Tensor:
        candidates = mask.nonzero().squeeze(1)
        return candidates[torch.randint(len(candidates), (size,), generator=generator)]

    if foreground is None or not bool((usable & foreground).any()):
        return sample(usable, count)
    front = sample(usable & foreground, count // 2)
    return torch.cat([front, sample(usable, count - len(front))])
