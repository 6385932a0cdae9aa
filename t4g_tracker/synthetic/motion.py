"""Smooth motions for synthetic layers: similarities over time, seen by a camera."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.synthetic.layers import Pose


@dataclass(frozen=True)
class Similarity:
    """A shift, turn and scale in each of T frames."""

    shift: Tensor  # (T, 2) pixels
    angle: Tensor  # (T,) radians, clockwise as y points down
    scale: Tensor  # (T,) factor

    def linear(self) -> Tensor:
        """The matrices (T, 2, 2) of turn and scale."""
        cos, sin = self.scale * torch.cos(self.angle), self.scale * torch.sin(self.angle)
        return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def seen_by(camera: Similarity, world: Similarity, phase: Tensor, size: Size, nearness: float = 1.0) -> Pose:
    """Compute the pose in the video of a layer that moves in the world.

    Args:
        camera: The camera's view: ``shift`` is the world position at the frame's middle;
            ``angle`` and ``scale`` turn and enlarge the picture.
        world: The layer's own motion, in world pixels around the origin.
        phase: (T, K) radians of the layer's bend.
        size: (H, W) video pixels.
        nearness: Factor on the camera's shift; a layer with more than 1 is nearer and moves faster.

    Returns:
        Pose of T frames.
    """
    view = camera.linear()
    middle = world.shift.new_tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
    shift = view @ (world.shift - nearness * camera.shift)[..., None]
    return Pose(middle + shift[..., 0], view @ world.linear(), phase)


def swim(start: tuple[float, float], heading: Tensor, speed_px: Tensor) -> Tensor:
    """Compute the path (T, 2) from ``start`` along ``heading`` (T,) radians at ``speed_px`` (T,) a frame."""
    steps = torch.stack([torch.cos(heading), torch.sin(heading)], -1) * speed_px[:, None]
    path = torch.cumsum(steps, dim=0) - steps
    return path + path.new_tensor(start)


def running_phase(first: Tensor, per_frame: Tensor, frames: int) -> Tensor:
    """Compute phases (T, K) that start at ``first`` (K,) and grow by ``per_frame`` (K,) radians."""
    return first + torch.arange(frames, device=first.device)[:, None] * per_frame
