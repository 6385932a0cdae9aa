"""Scenes of moving textured layers, with the exact track of any point and exact flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, inside
from t4g_tracker.datatypes import Tracks
from t4g_tracker.synthetic.layers import Layer, Pose, bounding_box, pose_at, sample, to_canonical, to_frame


@dataclass(frozen=True)
class Scene:
    """The content of a synthetic clip. Its first layer, the background, must cover every frame."""

    layers: tuple[Layer, ...]
    light: Tensor  # (T, h, w) factor on brightness over the frame, any h and w
    size: Size  # (H, W) video pixels
    shutter: float = 0.0  # share of the time between frames for which the shutter is open
    noise: float = 0.0  # standard deviation of the grain, of brightness 0..1

    @property
    def frame_count(self) -> int:
        return self.light.shape[0]


def top_layer(scene: Scene, frame: int | Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Find which layer is visible at positions of a frame, and which of its points.

    Args:
        scene: The clip.
        frame: One frame, 0-based, or one (...) for each position.
        xy: (..., 2) video pixels, inside the frame or not.

    Returns:
        (...) int64 index into ``scene.layers``, and (..., 2) canonical pixels of that layer.
    """
    frame = torch.as_tensor(frame, device=xy.device)
    shape = xy.shape[:-1]
    background = scene.layers[0]
    index = torch.zeros(shape, dtype=torch.int64, device=xy.device)
    nearest = background.depth[frame].expand(shape)
    covers = []
    for number, layer in enumerate(scene.layers[1:], start=1):
        where, hit, point = _hits(layer, pose_at(layer.pose, frame), xy)
        where = where[hit]
        depth = layer.depth[frame].expand(shape).reshape(-1)[where]
        nearer = depth < nearest.reshape(-1)[where]
        where = where[nearer]
        index = index.reshape(-1).index_fill(0, where, number).reshape(shape)
        nearest = nearest.reshape(-1).index_copy(0, where, depth[nearer]).reshape(shape)
        covers.append((where, point[hit][nearer]))
    canonical = to_canonical(background, pose_at(background.pose, frame), xy).reshape(-1, 2)
    for where, point in covers:  # of two layers at one position, the later is nearer and replaces the other
        canonical[where] = point
    return index, canonical.reshape(xy.shape)


def _hits(layer: Layer, pose: Pose, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find flat indices (M,) of positions that a layer may cover, whether it does, and its points there."""
    low, high = bounding_box(layer, pose)
    near = ((xy >= low) & (xy <= high)).all(dim=-1)
    if pose.centre.ndim > 1:
        pose = pose.spread(near.shape).select(near)
    point = to_canonical(layer, pose, xy[near])
    return near.reshape(-1).nonzero()[:, 0], sample(layer.texture[3:], point)[0] > 0, point


def is_seen(scene: Scene, frame: int | Tensor, layer: Tensor, xy: Tensor) -> Tensor:
    """Test which points of ``layer`` (...) at ``xy`` (..., 2) are inside the frame and hidden by no layer.

    ``frame`` is one for all, or a tensor that broadcasts with ``layer``.
    """
    frame = torch.as_tensor(frame, device=xy.device)
    seen = inside(xy, scene.size)
    depths = torch.stack([sheet.depth for sheet in scene.layers])
    own = depths[layer, frame]
    for number, sheet in enumerate(scene.layers[1:], start=1):
        where, hit, _ = _hits(sheet, pose_at(sheet.pose, frame), xy)
        where = where[hit]
        depth = sheet.depth[frame].expand(seen.shape).reshape(-1)[where]
        hides = (depth < own.reshape(-1)[where]) & (layer.expand(seen.shape).reshape(-1)[where] != number)
        seen = seen.reshape(-1).index_fill(0, where[hides], False).reshape(seen.shape)
    return seen


def layer_tracks(scene: Scene, layer: Tensor, canonical: Tensor) -> Tracks:
    """Compute the exact tracks of N points given by ``layer`` (N,) and ``canonical`` (N, 2) pixels."""
    xy = canonical.new_zeros(len(layer), scene.frame_count, 2)
    for number, sheet in enumerate(scene.layers):
        own = layer == number
        xy[own] = to_frame(sheet, sheet.pose, canonical[own][:, None])
    every = torch.arange(scene.frame_count, device=xy.device)
    visibility = is_seen(scene, every, layer[:, None].expand(xy.shape[:-1]), xy)
    return Tracks(xy, visibility, torch.ones_like(xy[..., 0]))


def tracks(scene: Scene, frame: Tensor, xy: Tensor) -> Tracks:
    """Compute the exact tracks of the points that are visible at given positions.

    Args:
        scene: The clip.
        frame: (N,) int64, the frame of each position.
        xy: (N, 2) video pixels.

    Returns:
        ``xy`` (N, T, 2) video pixels, even where hidden or outside; ``visibility`` (N, T), True
        where the point is inside the frame and no nearer layer covers it; ``confidence`` all 1.
    """
    layer, canonical = top_layer(scene, frame, xy)
    return layer_tracks(scene, layer, canonical)


def pixel_grid(size: Size, device: torch.device) -> Tensor:
    """Make a grid (H, W, 2) of the positions (x, y) of pixel centres."""
    y = torch.arange(size[0], device=device, dtype=torch.float32)
    x = torch.arange(size[1], device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def flow(scene: Scene, source: int, target: int) -> tuple[Tensor, Tensor]:
    """Compute the exact displacement of every pixel of one frame to any other frame.

    Args:
        scene: The clip.
        source: Frame of the pixels.
        target: Frame they move to, before or after.

    Returns:
        (2, H, W) displacement (dx, dy) in video pixels, exact even where a point is hidden or outside,
        and (H, W) bool, True where the point is visible in ``target``.
    """
    xy = pixel_grid(scene.size, scene.light.device)
    index, canonical = top_layer(scene, source, xy)
    moved = torch.zeros_like(xy)
    for number, layer in enumerate(scene.layers):
        own = index == number
        moved[own] = to_frame(layer, pose_at(layer.pose, target), canonical[own])
    return (moved - xy).movedim(-1, 0), is_seen(scene, target, index, moved)
