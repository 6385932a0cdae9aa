"""Clips and pairs of frames for training, with exact tracks and flow.

Training and validation never share a seed: ``train_generator`` and ``val_generator``
derive theirs from a hash of the words "train" and "val" and of whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.seeds import generator_for
from t4g_tracker.synthetic.camera_losses import lose_quality
from t4g_tracker.synthetic.random_scenes import random_scene
from t4g_tracker.synthetic.rendering import render
from t4g_tracker.synthetic.scene import Scene, flow, layer_tracks, top_layer
from t4g_tracker.synthetic.surfaces import SurfaceConfig
from t4g_tracker.synthetic.textures import choice

CLIPS_VERSION = 2  # raise it when the same seeds give other clips, so that cached ones are no longer used
CANDIDATES = 6  # points sampled for each point chosen
OBJECT_WEIGHT = 3.0  # weight of a point on an object, relative to one on the background
EDGE_WEIGHT = 5.0  # weight of a point near an occlusion
EDGE_PX = 8.0  # a point is near an occlusion if another layer is visible at this distance from it
GAPS = (1, 1, 1, 1, 1, 1, 2, 2, 3, 4)  # frames between the two of a pair; each entry is equally likely
SCENES_TRIED = 10  # to find a pair with as little motion as asked for


@dataclass(frozen=True)
class TrainingClip:
    """A clip and the tracks of points, each visible in at least one frame."""

    frames: Tensor  # (T, 3, H, W) uint8
    xy: Tensor  # (N, T, 2) float32 pixels, exact, also where hidden or outside
    visibility: Tensor  # (N, T) bool


@dataclass(frozen=True)
class FlowPair:
    """Two frames and the flow of every pixel, forward and backward."""

    first: Tensor  # (3, H, W) uint8
    second: Tensor  # (3, H, W) uint8
    forward: Tensor  # (2, H, W) float32 pixels, exact also where hidden or outside
    backward: Tensor  # (2, H, W)
    forward_valid: Tensor  # (H, W) bool, true where the point is visible in the other frame
    backward_valid: Tensor  # (H, W) bool


def train_generator(seed: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the generator of training sample ``index`` of a training with ``seed``."""
    return generator_for(f"train {seed} {index}", device)


def val_generator(index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the generator of validation sample ``index``; no training uses it."""
    return generator_for(f"val {index}", device)


def generate_clip(
    generator: torch.Generator, frames: int, size: Size, points: int, surfaces: SurfaceConfig | None = None
) -> TrainingClip:
    """Generate a clip and tracks of points all over it, most on objects and near occlusions.

    Args:
        generator: Random numbers; the clip lives on its device. The same state gives the
            same clip.
        frames: T, at least 2.
        size: (H, W) in pixels.
        points: N. Each is visible in a random frame, not only in the first.
        surfaces: Shares of photographs and patterns; None for the default.

    Returns:
        Frames with the losses of a camera and a codec, and exact tracks.

    Raises:
        TrackerError: If photographs are needed and scikit-image is not installed.
    """
    scene = random_scene(generator, frames, size, surfaces)
    pictures = lose_quality(generator, render(scene, generator))
    layer, canonical = sample_points(generator, scene, points)
    tracks = layer_tracks(scene, layer, canonical)
    return TrainingClip(pictures, tracks.xy, tracks.visibility)


def sample_points(generator: torch.Generator, scene: Scene, points: int) -> tuple[Tensor, Tensor]:
    """Sample points that are visible in some frame: layer (N,) and canonical position (N, 2)."""
    device, count = generator.device, CANDIDATES * points
    frame = torch.randint(scene.frame_count, (count,), generator=generator, device=device)
    extent = torch.tensor([scene.size[1], scene.size[0]], device=device)
    xy = torch.rand(count, 2, generator=generator, device=device) * extent - 0.5
    away = torch.randn(count, 2, generator=generator, device=device)
    away = away * (EDGE_PX / away.norm(dim=-1, keepdim=True).clamp(min=1e-6))
    layer, canonical = top_layer(scene, frame, xy)
    beside, _ = top_layer(scene, frame, xy + away)
    weight = torch.where(layer > 0, OBJECT_WEIGHT, 1.0)
    weight = torch.where(beside != layer, EDGE_WEIGHT, weight)
    chosen = torch.multinomial(weight, points, generator=generator)
    return layer[chosen], canonical[chosen]


def generate_pair(
    generator: torch.Generator,
    size: Size,
    surfaces: SurfaceConfig | None = None,
    gaps: Sequence[int] = GAPS,
    largest_motion: float = math.inf,
) -> FlowPair:
    """Generate two frames of a scene and the exact flow both ways.

    Args:
        generator: Random numbers; the pair lives on its device. The same state gives the
            same pair.
        size: (H, W) in pixels.
        surfaces: Shares of photographs and patterns; None for the default.
        gaps: Frames between the two; each entry is equally likely.
        largest_motion: Half of all pixels move by no more than this share of the frame's diagonal. Frames
            far apart would otherwise often show different places. After ten scenes with more motion, the
            tenth is taken.

    Returns:
        Frames with the losses of a camera and a codec, and flow that is exact even where a point
        is hidden in the other frame or outside it.

    Raises:
        TrackerError: If photographs are needed and scikit-image is not installed.
    """
    gap = gaps[choice(generator, len(gaps))]
    for _ in range(SCENES_TRIED):
        scene = random_scene(generator, gap + 1, size, surfaces)
        forward, forward_valid = flow(scene, 0, gap)
        if float(forward.norm(dim=0).median()) <= largest_motion * math.hypot(*size):
            break
    first, second = lose_quality(generator, render(scene, generator, only=(0, gap)))
    backward, backward_valid = flow(scene, gap, 0)
    return FlowPair(first, second, forward, backward, forward_valid, backward_valid)


def val_pairs(count: int, size: Size, device: torch.device | str = "cpu") -> list[FlowPair]:
    """Generate the first ``count`` validation pairs, the same in every run."""
    return [generate_pair(val_generator(index, device), size) for index in range(count)]
