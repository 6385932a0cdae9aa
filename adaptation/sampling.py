"""Sampling training pairs from trajectories, and holding out trajectories that measure progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptation.windows import Windows, sample_windows
from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import Trajectories
from t4g_tracker.errors import TrackerError

OVERSAMPLED = 4  # as many pairs are sampled as must lie in a window; those outside are dropped


def sent(value: Tensor, device: torch.device) -> Tensor:
    """Send a tensor to a device; to a GPU from pinned memory, without waiting for what it is doing."""
    if device.type == "cuda" and value.device.type == "cpu":
        # PyTorch keeps the pinned copy until it is read
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Points of some frames of a batch, each to be found in another one.

    Sorted by target frame, so one matrix product per target frame makes their cost maps.
    """

    source: Tensor  # (P,) int64 frame of the batch that a point comes from
    target: Tensor  # (P,) int64 frame of the batch that it is to be found in, ascending
    source_xy: Tensor  # (P, 2) working pixels
    per_frame: int | None = None  # points to be found in each frame; None where numbers differ


@dataclass(frozen=True, kw_only=True)
class PairBatch(Search):
    """Pairs of positions of the same physical point in two frames of the batch."""

    frames: Tensor  # (F,) int64 distinct frames of the video
    target_xy: Tensor  # (P, 2) working pixels
    windows: Windows | None = None  # on the CPU; if given, positions count from their corners

    def map(self, function: Callable[[Tensor], Tensor]) -> PairBatch:
        """The same batch with ``function`` of each tensor in its place."""
        tensors = {name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return PairBatch(**tensors, per_frame=self.per_frame, windows=self.windows)

    def to(self, device: torch.device) -> PairBatch:
        """The same batch with its tensors on ``device``."""
        return self.map(lambda value: sent(value, device))


def joined(batches: list[PairBatch]) -> PairBatch:
    """Join batches of whole frames, as many frames and pairs in each, into one, each with its own frames."""
    frames = len(batches[0].frames)
    return PairBatch(
        frames=torch.cat([batch.frames for batch in batches]),
        source=torch.cat([batch.source + index * frames for index, batch in enumerate(batches)]),
        target=torch.cat([batch.target + index * frames for index, batch in enumerate(batches)]),
        source_xy=torch.cat([batch.source_xy for batch in batches]),
        target_xy=torch.cat([batch.target_xy for batch in batches]),
        per_frame=batches[0].per_frame,
    )


def hold_out(
    trajectories: Trajectories, size: Size, share: float, generator: torch.Generator, block_px: int = 24
) -> tuple[Trajectories, Trajectories]:
    """Hold out the trajectories that start in some blocks of the frame, one block in each tile of several.

    Whole blocks are held out, because a trajectory 4 px away from a trained one says little about untrained
    points. The blocks are small and lie all over the frame: so no object goes untrained, and what is measured
    on them depends little on which they are.

    Args:
        trajectories: All of them.
        size: (H, W) in working pixels.
        share: Share of blocks to hold out, 0..0.5, as near as whole tiles come to it.
        generator: Chooses the blocks.
        block_px: Side of a block, working pixels.

    Returns:
        Trajectories to train on, and held-out ones. With ``share`` 0 none is held out;
        otherwise neither is empty if there are at least two trajectories.
    """
    begin = trajectories.xy[trajectories.first].clamp_min(0)
    rows, columns = -(-size[0] // block_px), -(-size[1] // block_px)
    chosen = _one_in_each_tile(rows, columns, share, generator)
    column, row = (begin / block_px).long().unbind(-1)
    held_out = chosen[row.clamp_max(rows - 1), column.clamp_max(columns - 1)]
    if share > 0 and (held_out.all() or not held_out.any()):
        held_out = torch.zeros(len(trajectories), dtype=torch.bool)
        held_out[:: max(2, round(1 / share))] = True
    return trajectories.subset(~held_out), trajectories.subset(held_out)


def _one_in_each_tile(rows: int, columns: int, share: float, generator: torch.Generator) -> Tensor:
    """Choose one block at random in each tile of about 1 / ``share`` blocks: (rows, columns) bool."""
    score = torch.rand(rows, columns, generator=generator)
    if not share:
        return torch.zeros(rows, columns, dtype=torch.bool)
    tall = round((1 / share) ** 0.5)
    wide = round(1 / (share * tall))
    row, column = torch.arange(rows)[:, None] // tall, torch.arange(columns) // wide
    tile = row * -(-columns // wide) + column
    best = torch.zeros(int(tile.max()) + 1).scatter_reduce(0, tile.flatten(), score.flatten(), "amax")
    return score == best[tile]


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
    window: tuple[Size, Size] | None = None,
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
        window: (H, W) of the frames, and of a window in each that the pairs lie in; None for whole frames.
            With a foreground none, since a window may not hold it.

    Returns:
        A batch of F * P pairs.

    Raises:
        TrackerError: If no sampled set of frames shares trajectories in every frame.
    """
    for _ in range(attempts):
        frames = sample_frames(frame_count, frames_per_step, generator)
        alive = trajectories.shown(frames)
        usable = alive & (alive.sum(0) >= 2)
        if not bool(usable.any(1).all()):
            continue
        windows = None
        if window is not None:
            shown = int(_sample_where(usable.any(0), 1, generator))
            windows = sample_windows(trajectories, shown, alive, frames, *window, generator)
        found = []
        for g in range(len(frames)):
            count = pairs_per_frame if windows is None else OVERSAMPLED * pairs_per_frame
            which = _sample_trajectories(usable[g], count, generator, foreground)
            others = alive[:, which].T.clone()
            others[:, g] = False
            chance = torch.rand(others.shape, generator=generator).masked_fill(~others, -1)
            source = chance.argmax(1)
            source_xy = trajectories.at(which, frames[source])
            target_xy = trajectories.at(which, frames[g].expand_as(which))
            pairs = source, source_xy, target_xy
            if windows is not None:
                pairs = _within(windows, g, *pairs, pairs_per_frame, generator)
            found.append(pairs)
        if not all(len(source) for source, _, _ in found):
            continue
        source, source_xy, target_xy = (torch.cat(parts) for parts in zip(*found, strict=True))
        target = torch.arange(len(frames)).repeat_interleave(pairs_per_frame)
        return PairBatch(
            frames=frames,
            per_frame=pairs_per_frame,
            source=source,
            target=target,
            source_xy=source_xy,
            target_xy=target_xy,
            windows=windows,
        )
    raise _too_short(frames_per_step)


def sample_pairs_uniformly(
    trajectories: Trajectories,
    frame_count: int,
    frames_per_step: int,
    pairs_per_frame: int,
    generator: torch.Generator,
    foreground: Tensor | None = None,
    attempts: int = 100,
) -> PairBatch:
    """Sample frames from the whole video, and pairs that begin and end in any of them.

    With a foreground, half of the pairs come from its trajectories and half from the others, each
    half from frames of its own. No trajectory is sampled twice.

    Args:
        trajectories: What to sample from.
        frame_count: T of the video.
        frames_per_step: Frames of each half, at least 2.
        pairs_per_frame: Pairs in all, divided by ``frames_per_step``; fewer if trajectories run out.
        generator: Makes every choice.
        foreground: (M,) bool, or None for one half only.
        attempts: Sets of frames to try before giving up on a half.

    Returns:
        A batch of up to twice ``frames_per_step`` frames.

    Raises:
        TrackerError: If no sampled set of frames shares two trajectories.

    Source: the sampler of DINO-Tracker, arXiv:2403.14548, and its released code.
    """
    present = trajectories.present(frame_count)
    masks = [None] if foreground is None else [foreground, ~foreground]
    count = pairs_per_frame * frames_per_step // len(masks)
    halves = [
        half
        for mask in masks
        if (half := _sample_half(present, mask, count, frames_per_step, generator, attempts)) is not None
    ]
    if not halves:
        raise _too_short(frames_per_step)
    frames = torch.cat([chosen for chosen, _, _, _ in halves]).unique()
    which, source, target = (torch.cat(parts) for parts in list(zip(*halves, strict=True))[1:])
    order = target.argsort(stable=True)
    which, source, target = which[order], source[order], target[order]
    return PairBatch(
        frames=frames,
        source=torch.searchsorted(frames, source),
        target=torch.searchsorted(frames, target),
        source_xy=trajectories.at(which, source),
        target_xy=trajectories.at(which, target),
    )


def _sample_half(
    present: Tensor,
    mask: Tensor | None,
    count: int,
    frames_per_step: int,
    generator: torch.Generator,
    attempts: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Frames (F,), and up to ``count`` trajectories with source and target frame of each; None if none."""
    frame_count = present.shape[1]
    for _ in range(attempts):
        frames = torch.randperm(frame_count, generator=generator)[:frames_per_step]
        seen = present[:, frames]
        usable = seen.sum(1) >= 2
        candidates = (usable if mask is None else usable & mask).nonzero().squeeze(1)
        if len(candidates) >= 2:
            which = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
            chance = torch.rand(len(which), len(frames), generator=generator).masked_fill(~seen[which], -1)
            source, target = frames[chance.topk(2).indices].unbind(1)  # two of its frames in random order
            return frames, which, source, target
    return None


def _too_short(frames_per_step: int) -> TrackerError:
    fewer = "lower adaptation.frames_per_step, or " if frames_per_step > 2 else ""
    return TrackerError(
        f"the trajectories are too short to pair frames; {fewer}for longer ones raise "
        "trajectories.uncertainty_px (rule=gaps) or trajectories.cycle_threshold_px (rule=chained)"
    )


def _within(
    windows: Windows,
    target: int,
    source: Tensor,
    source_xy: Tensor,
    target_xy: Tensor,
    count: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """``count`` of the pairs that begin and end in windows, positions from their corners; none if none does.

    Where fewer do, they are taken more than once.
    """
    inside = (windows.hold(source_xy, source) & windows.hold(target_xy, target)).nonzero().squeeze(1)
    chosen = inside.repeat(-(-count // max(1, len(inside))))[:count]
    source = source[chosen]
    return source, source_xy[chosen] - windows.corner[source], target_xy[chosen] - windows.corner[target]


def _sample_trajectories(
    usable: Tensor, count: int, generator: torch.Generator, foreground: Tensor | None
) -> Tensor:
    """Sample ``count`` indices with replacement among usable ones, half of them in the foreground."""

    if foreground is None or not bool((usable & foreground).any()):
        return _sample_where(usable, count, generator)
    front = _sample_where(usable & foreground, count // 2, generator)
    return torch.cat([front, _sample_where(usable, count - len(front), generator)])


def _sample_where(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Sample ``count`` indices with replacement among those where ``mask`` (M,) holds.

    Some are sampled among all, and those where it does not hold are dropped: listing a hundred thousand of
    them would take longer than all else that samples a step. Only where too few are left are they listed.
    """
    among_all = torch.randint(len(mask), (4 * count,), generator=generator)
    found = among_all[mask[among_all]][:count]
    if len(found) < count:
        candidates = mask.nonzero().squeeze(1)
        found = candidates[torch.randint(len(candidates), (count,), generator=generator)]
    return found
