"""Clips made of moving textured layers, with the exact track of any point and the exact flow.

A layer is a texture with an outline. Its motion is known in closed form from canonical
position u (texture pixels, the texture's middle at the origin) to frame position

    p = centre + linear (u + sum_k push_k sin(wave_k . u + phase_k)),

a similarity after a smooth bend. Rendering needs the inverse, which has no closed form;
the bend is kept a contraction, so a fixed-point iteration finds it to a thousandth of a
pixel. Tracks, visibility, flow and pictures all come from these two maps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from t4g_tracker.coordinates import Size, inside, to_sample_grid
from t4g_tracker.datatypes import Tracks
from t4g_tracker.training.textures import xy_half

STEEPEST_BEND = 0.5  # bound on the bend's slope; the inverse's error shrinks by it in each iteration
INVERSE_ERROR_PX = 1e-3  # canonical pixels, at most, where the iteration stops


@dataclass(frozen=True)
class Pose:
    """How a layer lies at one time, or at several when the fields have leading dimensions."""

    centre: Tensor  # (..., 2) video pixels, where u = 0 goes but for the bend
    linear: Tensor  # (..., 2, 2) video pixels per canonical pixel
    phase: Tensor  # (..., K) radians, of the bend's waves


@dataclass(frozen=True)
class Layer:
    """A textured sheet: what it looks like, where it ends, and how it moves."""

    texture: Tensor  # (4, h, w) red, green, blue in 0..1, and canonical pixels inside the outline
    pose: Pose  # of T frames
    depth: Tensor  # (T,) no unit; of two layers, the one with less hides the other
    wave: Tensor  # (K, 2) radians per canonical pixel
    push: Tensor  # (K, 2) canonical pixels
    shadow: float = 0.0  # share of the light that it takes from what lies behind

    def __post_init__(self) -> None:
        if self._slope > STEEPEST_BEND:
            raise ValueError(f"the bend's slope may reach {STEEPEST_BEND}, got {self._slope:.3f}; push less")

    @cached_property
    def _slope(self) -> float:
        return float((self.wave.norm(dim=-1) * self.push.norm(dim=-1)).sum())

    @cached_property
    def iterations(self) -> int:
        """How many fixed-point iterations bring the inverse within ``INVERSE_ERROR_PX``."""
        reach = float(self.push.norm(dim=-1).sum())
        if self._slope == 0 or reach <= INVERSE_ERROR_PX:
            return 0 if reach == 0 else 1
        return max(1, math.ceil(math.log(INVERSE_ERROR_PX / reach) / math.log(self._slope)))


@dataclass(frozen=True)
class Scene:
    """Everything that a synthetic clip shows. The first layer must cover every frame."""

    layers: tuple[Layer, ...]
    light: Tensor  # (T, h, w) factor on brightness over the frame, any h and w
    size: Size  # (H, W) video pixels
    shutter: float = 0.0  # part of the time between frames that a frame is exposed for
    noise: float = 0.0  # standard deviation of the grain, of brightness 0..1

    @property
    def frame_count(self) -> int:
        return self.light.shape[0]


def pose_at(pose: Pose, frame: int, offset: float = 0.0) -> Pose:
    """The pose in one frame, or ``offset`` frames from it at the speed it has there."""
    before, after = max(frame - 1, 0), min(frame + 1, len(pose.centre) - 1)
    share = offset / max(after - before, 1)

    def moved(values: Tensor) -> Tensor:
        return values[frame] + share * (values[after] - values[before])

    return Pose(moved(pose.centre), moved(pose.linear), moved(pose.phase))


def to_frame(layer: Layer, pose: Pose, canonical: Tensor) -> Tensor:
    """Where a layer's points are in a frame.

    Args:
        layer: Gives the bend.
        pose: Its fields' leading dimensions broadcast with those of ``canonical``.
        canonical: (..., 2) canonical pixels.

    Returns:
        (..., 2) video pixels, exact.
    """
    return pose.centre + _apply(pose.linear, canonical + _bend(layer, pose, canonical))


def to_canonical(layer: Layer, pose: Pose, xy: Tensor) -> Tensor:
    """Which of a layer's points is at a position of a frame; the inverse of ``to_frame``.

    Args:
        layer: Gives the bend.
        pose: As in ``to_frame``.
        xy: (..., 2) video pixels.

    Returns:
        (..., 2) canonical pixels; ``to_frame`` of them misses ``xy`` by less than 0.01 px.
    """
    bent = _apply(torch.linalg.inv(pose.linear), xy - pose.centre)
    canonical = bent
    for _ in range(layer.iterations):
        canonical = bent - _bend(layer, pose, canonical)
    return canonical


def _bend(layer: Layer, pose: Pose, canonical: Tensor) -> Tensor:
    """Displacement (..., 2) of the smooth bend, in canonical pixels."""
    x, y = canonical[..., :1], canonical[..., 1:]
    return torch.sin(x * layer.wave[:, 0] + y * layer.wave[:, 1] + pose.phase) @ layer.push


def _apply(linear: Tensor, xy: Tensor) -> Tensor:
    """(..., 2, 2) times (..., 2); many times quicker on images than ``matmul``."""
    x, y = xy.unbind(-1)
    return torch.stack(
        [linear[..., 0, 0] * x + linear[..., 0, 1] * y, linear[..., 1, 0] * x + linear[..., 1, 1] * y], -1
    )


def sample(picture: Tensor, canonical: Tensor) -> Tensor:
    """Read a texture (C, h, w) at canonical positions (..., 2), giving (C, ...)."""
    size = (picture.shape[-2], picture.shape[-1])
    grid = to_sample_grid(canonical + xy_half(size, picture.device), size).reshape(1, 1, -1, 2)
    values = grid_sample(picture[None], grid, padding_mode="border", align_corners=False)
    return values.reshape(len(picture), *canonical.shape[:-1])


def top_layer(scene: Scene, frame: int, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Which layer is seen at positions of a frame, and which of its points.

    Args:
        scene: The clip.
        frame: One frame, 0-based.
        xy: (..., 2) video pixels, inside the frame or not.

    Returns:
        (...) int64 index into ``scene.layers``, and (..., 2) canonical pixels of that layer.
    """
    index = torch.zeros(xy.shape[:-1], dtype=torch.int64, device=xy.device)
    canonical = to_canonical(scene.layers[0], pose_at(scene.layers[0].pose, frame), xy)
    nearest = scene.layers[0].depth[frame].expand(index.shape)
    for number, layer in enumerate(scene.layers[1:], start=1):
        point = to_canonical(layer, pose_at(layer.pose, frame), xy)
        hides = (sample(layer.texture[3:], point)[0] > 0) & (layer.depth[frame] < nearest)
        index = torch.where(hides, number, index)
        canonical = torch.where(hides[..., None], point, canonical)
        nearest = torch.where(hides, layer.depth[frame], nearest)
    return index, canonical


def is_seen(scene: Scene, frame: int, layer: Tensor, xy: Tensor) -> Tensor:
    """Whether nothing hides ``layer`` (...) at positions ``xy`` (..., 2) inside the frame."""
    return (top_layer(scene, frame, xy)[0] == layer) & inside(xy, scene.size)


def layer_tracks(scene: Scene, layer: Tensor, canonical: Tensor) -> Tracks:
    """Exact tracks of N points given by ``layer`` (N,) and ``canonical`` (N, 2) pixels."""
    xy = canonical.new_zeros(len(layer), scene.frame_count, 2)
    for number, sheet in enumerate(scene.layers):
        own = layer == number
        xy[own] = to_frame(sheet, sheet.pose, canonical[own][:, None])
    frames = [is_seen(scene, frame, layer, xy[:, frame]) for frame in range(scene.frame_count)]
    return Tracks(xy, torch.stack(frames, dim=1), torch.ones_like(xy[..., 0]))


def tracks(scene: Scene, frame: Tensor, xy: Tensor) -> Tracks:
    """Exact tracks of the points seen at given positions.

    Args:
        scene: The clip.
        frame: (N,) int64, the frame each point is given in.
        xy: (N, 2) video pixels.

    Returns:
        ``xy`` (N, T, 2) video pixels, also where hidden or outside; ``visibility`` (N, T)
        true inside the frame where no nearer layer covers the point; ``confidence`` all 1.
    """
    layer = torch.zeros_like(frame)
    canonical = torch.zeros_like(xy)
    for number in sorted(set(frame.tolist())):
        here = frame == number
        layer[here], canonical[here] = top_layer(scene, number, xy[here])
    return layer_tracks(scene, layer, canonical)


def pixel_grid(size: Size, device: torch.device) -> Tensor:
    """(H, W, 2) position (x, y) of every pixel centre."""
    y, x = (torch.arange(side, device=device, dtype=torch.float32) for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def flow(scene: Scene, source: int, target: int) -> tuple[Tensor, Tensor]:
    """Exact displacement of every pixel of one frame to any other frame.

    Args:
        scene: The clip.
        source: Frame whose pixels are followed.
        target: Frame they are followed to, before or after.

    Returns:
        (2, H, W) displacement (dx, dy) in video pixels, known everywhere, and (H, W) bool,
        true where the point is seen in ``target``.
    """
    xy = pixel_grid(scene.size, scene.light.device)
    index, canonical = top_layer(scene, source, xy)
    moved = torch.zeros_like(xy)
    for number, layer in enumerate(scene.layers):
        own = index == number
        moved[own] = to_frame(layer, pose_at(layer.pose, target), canonical[own])
    return (moved - xy).movedim(-1, 0), is_seen(scene, target, index, moved)
