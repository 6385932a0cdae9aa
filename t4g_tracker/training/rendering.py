"""Pictures of a synthetic scene: layers composed by depth, blurred by motion, lit and given grain."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size
from t4g_tracker.training.synthetic import (
    Layer,
    Pose,
    Scene,
    pixel_grid,
    pose_at,
    sample,
    to_canonical,
    to_frame,
)

SHADOW_SHIFT_PX = (5.0, 7.0)  # where shadows fall, video pixels
SHADOW_SOFTNESS_PX = 5.0


def render(scene: Scene, generator: torch.Generator | None = None, pairs: int = 1) -> Tensor:
    """Draw every frame.

    Each frame is the mean of 2 * ``pairs`` exposures at sub-pixel shifts and at times
    spread evenly over the shutter. Shifts and times are balanced, so blur and smoothing
    never move a point off its exact track.

    Args:
        scene: The clip.
        generator: Makes the grain, on the scene's device; None for no grain.
        pairs: Quality; 1 suffices for training, 4 gives smooth edges and blur.

    Returns:
        (T, 3, H, W) float32 red, green and blue in 0..1.
    """
    device = scene.light.device
    grid = pixel_grid(scene.size, device)
    shift = torch.frac(torch.arange(1, pairs + 1, device=device)[:, None] * _SPREAD.to(device))
    shift = shift - shift.mean(dim=0)
    frames = torch.zeros(scene.frame_count, 3, *scene.size, device=device)
    for frame, picture in enumerate(frames):
        for number in range(2 * pairs):
            time = scene.shutter * (((number // 2) * 2 + 1) / (4 * pairs)) * (1 if number % 2 else -1)
            picture += _expose(scene, frame, time, grid + shift[number // 2]) / (2 * pairs)
    light = interpolate(scene.light[:, None], size=scene.size, mode="bicubic", align_corners=False)
    frames = frames * light
    if generator is not None and scene.noise:
        frames += scene.noise * torch.randn(frames.shape, generator=generator, device=device)
    return frames.clamp(0, 1)


_SPREAD = torch.tensor([0.7548776662, 0.5698402910])  # evenly spread points: the R2 sequence


def _expose(scene: Scene, frame: int, time: float, grid: Tensor) -> Tensor:
    """(3, H, W) of one instant, the layers laid over each other from far to near."""
    picture = torch.zeros(3, *scene.size, device=grid.device)
    for layer in sorted(scene.layers, key=lambda layer: -float(layer.depth[frame])):
        pose = pose_at(layer.pose, frame, time)
        rows, columns = _reach(layer, pose, scene.size)
        part, xy = picture[:, rows, columns], grid[rows, columns]
        if part.numel() == 0:
            continue
        if layer.shadow:
            shift = torch.tensor(SHADOW_SHIFT_PX, device=grid.device)
            margin = sample(layer.texture[3:], to_canonical(layer, pose, xy - shift))[0]
            part *= 1 - layer.shadow * torch.sigmoid(margin * (2 / SHADOW_SOFTNESS_PX))
        values = sample(layer.texture, to_canonical(layer, pose, xy))
        cover = (0.5 + values[3] * torch.linalg.det(pose.linear).abs().sqrt()).clamp(0, 1)
        part += (values[:3] - part) * cover
    return picture


def _reach(layer: Layer, pose: Pose, size: Size) -> tuple[slice, slice]:
    """Rows and columns of the frame that a layer or its shadow can touch."""
    height, width = layer.texture.shape[-2:]
    slack = float(layer.push.norm(dim=-1).sum()) + 1
    x, y = width / 2 + slack, height / 2 + slack
    corners = layer.texture.new_tensor([[-x, -y], [x, -y], [-x, y], [x, y]])
    reached = to_frame(layer, pose, corners)
    spare = slack * float(torch.linalg.matrix_norm(pose.linear, 2)) + 2
    if layer.shadow:
        spare += max(SHADOW_SHIFT_PX) + SHADOW_SOFTNESS_PX
    low, high = (reached.amin(0) - spare).tolist(), (reached.amax(0) + spare).tolist()
    rows = slice(max(0, int(low[1])), max(0, min(size[0], int(high[1]) + 1)))
    columns = slice(max(0, int(low[0])), max(0, min(size[1], int(high[0]) + 1)))
    return rows, columns
