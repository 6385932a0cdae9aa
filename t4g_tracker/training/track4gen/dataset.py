"""Training items from clips with known tracks: kept on disk, looked at anew each time, put into batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.utils.data import Dataset

from t4g_tracker.coordinates import Size, to_sample_grid
from t4g_tracker.files import prepare_output_folder
from t4g_tracker.seeds import generator_for
from t4g_tracker.synthetic.clips import CLIPS_VERSION, TrainingClip, draw_clip, train_generator
from t4g_tracker.synthetic.scene import pixel_grid
from t4g_tracker.training.loop.batches import TensorBatch
from t4g_tracker.training.loop.items import cached_or_generated


class Clips(Protocol):
    """A numbered collection of clips with known tracks."""

    def __len__(self) -> int: ...

    def clip(self, index: int) -> TrainingClip:
        """The same clip whenever it is asked for."""
        ...


@dataclass(frozen=True)
class SyntheticClips:
    """Clips drawn by the generator; drawing takes longer than reading, so they can be kept.

    Args:
        count: How many different ones.
        frames: T of each.
        size: (H, W) pixels.
        points: N tracks of each.
        seed: Other seeds give other clips, none of them of ``synthetic-val``.
        folder: Where they are kept once drawn; None draws them every time.
    """

    count: int
    frames: int
    size: Size
    points: int
    seed: int = 0
    folder: Path | None = None

    def __len__(self) -> int:
        return self.count

    def clip(self, index: int) -> TrainingClip:
        def draw() -> TrainingClip:
            return draw_clip(train_generator(self.seed, index), self.frames, self.size, self.points)

        if self.folder is None:
            return draw()
        size = f"{self.size[0]}x{self.size[1]}"
        name = f"v{CLIPS_VERSION}-{size}-{self.frames}-{self.points}-{self.seed}-{index}.npz"
        return cached_or_generated(prepare_output_folder(self.folder) / name, TrainingClip, draw)


@dataclass(frozen=True)
class View:
    """Which part of a clip is looked at, and how differently its stretches may look."""

    segments: int  # stretches of consecutive frames, anywhere in the clip
    frames: int  # of each stretch
    size: Size  # (H, W) of the crop, at most the clip's
    turn: float = 0.0  # largest turn of a stretch, radians
    zoom: float = 1.0  # largest enlargement of a stretch, and largest reduction where the clip is larger
    tint: float = 0.0  # largest change of a colour channel's contrast and brightness, of 1


class ClipViews(Dataset[TrainingClip]):
    """Random views of clips, another one each time."""

    def __init__(self, clips: Clips, view: View, seed: int) -> None:
        self.clips, self.view, self.seed = clips, view, seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: tuple[int, int]) -> TrainingClip:
        """View number ``item[1]`` of clip ``item[0]``."""
        generator = generator_for(f"view {self.seed} {item[1]}")
        return look(self.clips.clip(item[0]), self.view, generator)


def look(clip: TrainingClip, view: View, generator: torch.Generator) -> TrainingClip:
    """Take one random view of a clip: some stretches, each cut out, turned and tinted in its own way.

    All of them may be mirrored, played backwards or have their colour channels swapped.

    Args:
        clip: T frames, at least as many as a stretch has.
        view: What to take.
        generator: Random numbers.

    Returns:
        ``segments * frames`` frames of ``view.size``; points outside the crop are not visible.
    """
    stretches = [_stretch(clip, view, generator) for _ in range(view.segments)]
    frames, xy, seen = (
        torch.cat(parts, dim) for parts, dim in zip(zip(*stretches, strict=True), (0, 1, 1), strict=True)
    )
    coin = torch.rand(3, generator=generator) < 0.5
    if coin[0]:
        frames, xy, seen = frames.flip(0), xy.flip(1), seen.flip(1)
    if coin[1]:
        frames = frames.flip(-1)
        xy = torch.stack([view.size[1] - 1 - xy[..., 0], xy[..., 1]], -1)
    if coin[2]:
        frames = frames[:, torch.randperm(3, generator=generator)]
    return TrainingClip(frames.contiguous(), xy, seen)


def _stretch(clip: TrainingClip, view: View, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Frames (F, 3, h, w) uint8, xy (N, F, 2) and visibility (N, F) of one stretch."""

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    height, width = clip.frames.shape[-2:]
    start = int(between(0, len(clip.frames) - view.frames + 1))
    frames = clip.frames[start : start + view.frames]
    xy, seen = clip.xy[:, start : start + view.frames], clip.visibility[:, start : start + view.frames]
    if view.turn or view.zoom > 1:
        angle, grow = float(between(-view.turn, view.turn)), float(between(-1, 1))
        frames, xy = _turn(frames, xy, view.size, angle, view.zoom**grow, between(-1, 1, 2))
    else:
        top, left = (int(between(0, spare + 1)) for spare in (height - view.size[0], width - view.size[1]))
        frames = frames[..., top : top + view.size[0], left : left + view.size[1]]
        xy = xy - torch.tensor([left, top])
    if view.tint:
        contrast = 1 + between(-view.tint, view.tint, 3, 1, 1)
        bright = 255 * between(-view.tint, view.tint, 3, 1, 1) / 2
        frames = ((frames.float() - 128) * contrast + 128 + bright).clamp(0, 255).to(torch.uint8)
    limits = torch.tensor([view.size[1] - 1, view.size[0] - 1])
    return frames, xy, seen & ((xy >= 0) & (xy <= limits)).all(-1)


def _turn(
    frames: Tensor, xy: Tensor, size: Size, angle: float, grow: float, place: Tensor
) -> tuple[Tensor, Tensor]:
    """Turn and scale frames (F, 3, H, W) and positions about the crop's middle, and crop to ``size``.

    ``place`` (2,) in -1..1 says where in the frame the crop's middle lies: 0 is the middle, 1
    as far as an upright crop of that scale can go.
    """
    full = torch.tensor([frames.shape[-1], frames.shape[-2]], dtype=torch.float32)
    crop = torch.tensor([size[1], size[0]], dtype=torch.float32)
    middle = (full - 1) / 2 + place * ((full - crop / grow) / 2).clamp_min(0)
    cos, sin = math.cos(angle) * grow, math.sin(angle) * grow
    linear = torch.tensor([[cos, -sin], [sin, cos]])
    moved = (xy - middle) @ linear.T + (crop - 1) / 2
    back = (pixel_grid(size, frames.device) - (crop - 1) / 2) @ torch.linalg.inv(linear).T + middle
    grid = to_sample_grid(back, (int(full[1]), int(full[0])))
    taken = grid_sample(
        frames.float(), grid.expand(len(frames), -1, -1, -1), padding_mode="reflection", align_corners=False
    )
    return taken.round().clamp(0, 255).to(torch.uint8), moved


@dataclass(frozen=True)
class ClipBatch(TensorBatch):
    """B clips of F frames with P tracks each."""

    frames: Tensor  # (B, F, 3, H, W) uint8
    xy: Tensor  # (B, P, F, 2) pixels
    visibility: Tensor  # (B, P, F) bool


def collate_clips(clips: list[TrainingClip]) -> ClipBatch:
    """Put clips of the same sizes into a batch."""
    parts: dict[str, Any] = {
        entry.name: torch.stack([getattr(clip, entry.name) for clip in clips])
        for entry in fields(TrainingClip)
    }
    return ClipBatch(parts["frames"], parts["xy"], parts["visibility"])
