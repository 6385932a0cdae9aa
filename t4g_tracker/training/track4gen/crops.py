"""Random crops of clips with known tracks: some of the frames, part of each frame, turned and tinted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from t4g_tracker.coordinates import Size, to_sample_grid
from t4g_tracker.synthetic.clips import TrainingClip
from t4g_tracker.synthetic.scene import pixel_grid


@dataclass(frozen=True)
class Crop:
    """The size of a random crop, and how much its stretches may differ from each other."""

    segments: int  # number of stretches of consecutive frames, anywhere in the clip
    frames: int  # in each stretch
    size: Size  # (H, W) pixels, at most the clip's
    turn: float = 0.0  # largest rotation of a stretch, radians
    zoom: float = 1.0  # largest enlargement of a stretch, and largest reduction if the clip is larger
    tint: float = 0.0  # largest change of a colour channel's contrast and brightness, as a share


def crop_clip(clip: TrainingClip, crop: Crop, generator: torch.Generator) -> TrainingClip:
    """Take one random crop of a clip: some stretches, each cut out, turned and tinted in its own way.

    The crop as a whole may be mirrored, played backwards, or have its colour channels swapped.

    Args:
        clip: T frames, at least the length of a stretch.
        crop: Size and changes of the crop.
        generator: Random numbers.

    Returns:
        ``segments * frames`` frames of ``crop.size``; points outside the crop are not visible.
    """
    stretches = [_stretch(clip, crop, generator) for _ in range(crop.segments)]
    frames = torch.cat([stretch[0] for stretch in stretches])
    xy = torch.cat([stretch[1] for stretch in stretches], dim=1)
    visibility = torch.cat([stretch[2] for stretch in stretches], dim=1)
    backwards, mirrored, swapped = (torch.rand(3, generator=generator) < 0.5).tolist()
    if backwards:
        frames, xy, visibility = frames.flip(0), xy.flip(1), visibility.flip(1)
    if mirrored:
        frames = frames.flip(-1)
        xy = torch.stack([crop.size[1] - 1 - xy[..., 0], xy[..., 1]], -1)
    if swapped:
        frames = frames[:, torch.randperm(3, generator=generator)]
    return TrainingClip(frames.contiguous(), xy, visibility)


def _stretch(clip: TrainingClip, crop: Crop, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Cut one stretch: frames (F, 3, h, w) uint8, xy (N, F, 2) and visibility (N, F)."""

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    start = int(between(0, len(clip.frames) - crop.frames + 1))
    frames = clip.frames[start : start + crop.frames]
    xy = clip.xy[:, start : start + crop.frames]
    visibility = clip.visibility[:, start : start + crop.frames]
    height, width = crop.size
    if crop.turn or crop.zoom > 1:
        angle = float(between(-crop.turn, crop.turn))
        scale = crop.zoom ** float(between(-1, 1))
        frames, xy = _turn(frames, xy, crop.size, angle, scale, between(-1, 1, 2))
    else:
        top = int(between(0, clip.frames.shape[-2] - height + 1))
        left = int(between(0, clip.frames.shape[-1] - width + 1))
        frames = frames[..., top : top + height, left : left + width]
        xy = xy - torch.tensor([left, top])
    if crop.tint:
        contrast = 1 + between(-crop.tint, crop.tint, 3, 1, 1)
        brightness = 255 * between(-crop.tint, crop.tint, 3, 1, 1) / 2
        frames = ((frames.float() - 128) * contrast + 128 + brightness).clamp(0, 255).to(torch.uint8)
    limits = torch.tensor([width - 1, height - 1])
    return frames, xy, visibility & ((xy >= 0) & (xy <= limits)).all(-1)


def _turn(
    frames: Tensor, xy: Tensor, size: Size, angle: float, scale: float, place: Tensor
) -> tuple[Tensor, Tensor]:
    """Turn and scale frames (F, 3, H, W) and positions about the crop's middle, and crop to ``size``.

    ``place`` (2,) in -1..1 is the position of the crop's middle in the frame: 0 is the frame's
    middle, 1 is as far as an upright crop of that scale can go.
    """
    full = torch.tensor([frames.shape[-1], frames.shape[-2]], dtype=torch.float32)
    cropped = torch.tensor([size[1], size[0]], dtype=torch.float32)
    middle = (full - 1) / 2 + place * ((full - cropped / scale) / 2).clamp_min(0)
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    linear = torch.tensor([[cos, -sin], [sin, cos]])
    moved = (xy - middle) @ linear.T + (cropped - 1) / 2
    back = (pixel_grid(size, frames.device) - (cropped - 1) / 2) @ torch.linalg.inv(linear).T + middle
    grid = to_sample_grid(back, (int(full[1]), int(full[0])))
    pictures = grid_sample(
        frames.float(), grid.expand(len(frames), -1, -1, -1), padding_mode="reflection", align_corners=False
    )
    return pictures.round().clamp(0, 255).to(torch.uint8), moved
