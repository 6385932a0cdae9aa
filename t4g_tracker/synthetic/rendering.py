"""Rendering a synthetic scene: layers blurred by their motion, composed by depth and lit, with grain."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from t4g_tracker.coordinates import Size, to_sample_grid
from t4g_tracker.synthetic.layers import Layer, Pose, bounding_box, pose_at, project, to_canonical
from t4g_tracker.synthetic.scene import Scene
from t4g_tracker.synthetic.textures import xy_half

SHADOW_SHIFT_PX = (5.0, 7.0)  # from a layer to its shadow, video pixels
SHADOW_SOFTNESS_PX = 5.0
SHARPEST_BLUR_PX = 0.4  # a layer that moves less while the shutter is open is exposed once
BLUR_STEP_PX = 3.0  # between exposures of a moving layer, unless more than MOST_PAIRS would be needed
MOST_PAIRS = 4
WIDEST_SPACING_PX = 16  # between the nodes at which a layer's motion is solved
MAP_ERROR_PX = 0.04  # bound on the error of interpolating positions between nodes; half of it was measured
PIXELS_AT_ONCE = {"cpu": 250_000, "cuda": 16_000_000}  # most pixels of the frames rendered together

Region = tuple[slice, slice]  # rows and columns of the frame


def render(
    scene: Scene,
    generator: torch.Generator | None = None,
    pairs: int = 1,
    only: Sequence[int] | None = None,
) -> Tensor:
    """Render every frame, or some.

    A layer that moves while the shutter is open is the mean of several exposures, the more the
    farther it moves, at times spread evenly over the shutter. Their times are balanced around
    the frame's, and so are their sub-pixel shifts (with ``pairs`` above 1), so blur and
    smoothing never move a point off its exact track.

    Args:
        scene: The clip.
        generator: Random numbers for the grain, on the scene's device; None for no grain.
        pairs: Smallest number of pairs of exposures, each at its own sub-pixel shift. 1 is enough
            for training, 4 gives smooth edges too.
        only: The frames to render; None renders all T.

    Returns:
        (T, 3, H, W) float32 red, green and blue in 0..1.
    """
    device = scene.light.device
    chosen = torch.tensor(range(scene.frame_count) if only is None else only, device=device)
    frames = torch.empty(len(chosen), 3, *scene.size, device=device)
    for start, stop, order in _blocks(scene, chosen):
        picture = _compose(scene, chosen[start:stop], order, pairs)
        light = scene.light[chosen[start:stop], None]
        if light.shape[-2:] != (1, 1):
            light = interpolate(light, size=scene.size, mode="bilinear", align_corners=False)
        picture *= light
        if generator is not None and scene.noise:
            picture.add_(torch.randn(picture.shape, generator=generator, device=device), alpha=scene.noise)
        frames[start:stop] = picture.clamp_(0, 1)
    return frames


def _blocks(scene: Scene, frames: Tensor) -> Iterator[tuple[int, int, list[int]]]:
    """Split ``frames`` into runs (start, stop) to render at once, each with its layers from far to near."""
    depths = torch.stack([layer.depth[frames] for layer in scene.layers])
    orders = depths.argsort(dim=0, descending=True, stable=True).T.tolist()
    at_once = max(1, PIXELS_AT_ONCE.get(scene.light.device.type, 250_000) // (scene.size[0] * scene.size[1]))
    start = 0
    for stop in range(1, len(orders) + 1):
        if stop == len(orders) or stop - start == at_once or orders[stop] != orders[start]:
            yield start, stop, orders[start]
            start = stop


def _compose(scene: Scene, frames: Tensor, order: list[int], pairs: int) -> Tensor:
    """Render the given frames (B, 3, H, W) by painting layers over each other from far to near."""
    picture = torch.zeros(len(frames), 3, *scene.size, device=scene.light.device)
    for number in order:
        layer = scene.layers[number]
        region = _region(layer, pose_at(layer.pose, frames), scene.size)
        part = picture[:, :, *region]
        if part.numel() == 0:
            continue
        exposures = _exposures(layer, frames, scene.shutter, pairs)
        if layer.shadow:
            part *= _mean([_shade(layer, frames, region, *exposure) for exposure in exposures])
        painted = [_paint(layer, frames, region, *exposure) for exposure in exposures]
        if number == order[0] == 0:  # the background has no outline to cut along
            part += _mean(painted)[:, :3]
            continue
        seen = _mean([_cut(values, layer, frames) for values in painted])
        part *= 1 - seen[:, 3:]
        part += seen[:, :3]
    return picture


def _mean(pictures: list[Tensor]) -> Tensor:
    """Average several pictures, in place of the first."""
    total = pictures[0]
    for picture in pictures[1:]:
        total += picture
    return total.div_(len(pictures)) if len(pictures) > 1 else total


def _cut(values: Tensor, layer: Layer, frames: Tensor) -> Tensor:
    """Compute colour times cover, and cover (B, 4, h, w), from colour and distance to the outline."""
    density = torch.linalg.det(layer.pose.linear[frames]).abs().sqrt()[:, None, None]
    cover = (0.5 + values[:, 3] * density).clamp_(0, 1)[:, None]
    return torch.cat([values[:, :3] * cover, cover], dim=1)


def _paint(layer: Layer, frames: Tensor, region: Region, time: float, shift: tuple[float, float]) -> Tensor:
    """Paint a layer's texture at one instant: (B, 4, h, w)."""
    grid = _texture_grid(layer, pose_at(layer.pose, frames, time), region, shift)
    return _read(layer.texture, grid)


def _shade(layer: Layer, frames: Tensor, region: Region, time: float, shift: tuple[float, float]) -> Tensor:
    """Compute the share of light (B, 1, h, w) that reaches the layers behind a layer."""
    moved = (shift[0] - SHADOW_SHIFT_PX[0], shift[1] - SHADOW_SHIFT_PX[1])
    grid = _texture_grid(layer, pose_at(layer.pose, frames, time), region, moved)
    return 1 - layer.shadow * torch.sigmoid(_read(layer.texture[3:], grid) * (2 / SHADOW_SOFTNESS_PX))


def _read(texture: Tensor, grid: Tensor) -> Tensor:
    """Sample a texture (C, ., .) at ``grid_sample``'s positions (B, h, w, 2): (B, C, h, w)."""
    picture = texture[None].expand(len(grid), -1, -1, -1)
    return grid_sample(picture, grid, padding_mode="border", align_corners=False)


def _texture_grid(layer: Layer, pose: Pose, region: Region, shift: tuple[float, float]) -> Tensor:
    """Compute where each pixel of a region reads a layer's texture: ``grid_sample``'s (B, h, w, 2).

    The map is smooth, so it is solved at nodes and interpolated between them. The nodes are
    where ``interpolate`` expects them with ``align_corners=False``, one beyond each border.
    """
    rows, columns = region
    height, width = rows.stop - rows.start, columns.stop - columns.start
    affine = pose.tilt is None and not layer.waves
    step = max(height, width) if affine else _node_spacing(layer, pose)
    size = (layer.texture.shape[-2], layer.texture.shape[-1])
    lines = []
    for start, length in ((columns.start + shift[0], width), (rows.start + shift[1], height)):
        node = torch.arange(-1, math.ceil(length / step) + 1, device=pose.centre.device)
        lines.append(start + step * (node + 0.5) - 0.5)
    nodes = torch.stack(torch.meshgrid(lines[0], lines[1], indexing="xy"), dim=-1)
    canonical = to_canonical(layer, pose.widen(2), nodes.expand(len(pose.centre), *nodes.shape))
    grid = to_sample_grid(canonical + xy_half(size, canonical.device), size).movedim(-1, 1)
    if affine:
        return _plane(grid, step, height, width)
    if step > 1:
        whole = (step * grid.shape[-2], step * grid.shape[-1])
        grid = interpolate(grid, size=whole, mode="bilinear", align_corners=False)
    return grid[..., step : step + height, step : step + width].movedim(1, -1)


def _plane(nodes: Tensor, step: int, height: int, width: int) -> Tensor:
    """Evaluate a function linear in x and y at pixels (B, h, w, 2), from its values (B, 2, 3, 3) at nodes."""
    down = (torch.arange(height, device=nodes.device) + 0.5) / step - 0.5
    across = (torch.arange(width, device=nodes.device) + 0.5) / step - 0.5
    first = nodes[:, :, 1:2, 1:2]
    column = first + (nodes[:, :, 2:, 1:2] - first) * down[:, None]
    return (column + (nodes[:, :, 1:2, 2:] - first) * across).movedim(1, -1)


def _node_spacing(layer: Layer, pose: Pose) -> int:
    """Choose the distance between nodes, in video pixels, for an error below ``MAP_ERROR_PX``."""
    shrink = 1 / float(torch.linalg.matrix_norm(pose.linear, -2).min())
    tilt = 0.0 if pose.tilt is None else float(pose.tilt.norm(dim=-1).max())
    curvature = shrink**2 * (layer.curvature + 4 * tilt)
    return max(1, min(WIDEST_SPACING_PX, int(math.sqrt(4 * MAP_ERROR_PX / max(curvature, 1e-9)))))


def _exposures(
    layer: Layer, frames: Tensor, shutter: float, pairs: int
) -> list[tuple[float, tuple[float, float]]]:
    """Choose the exposures of a layer: times in frames from the frame's own, and shifts in pixels."""
    height, width = layer.texture.shape[-2:]
    corners = layer.texture.new_tensor(
        [[-width, -height], [width, -height], [-width, height], [width, height]]
    )
    early, late = (
        project(pose_at(layer.pose, frames, time).widen(1), corners) for time in (-shutter / 2, shutter / 2)
    )
    travel_px = float((late - early).norm(dim=-1).max())
    if pairs == 1 and travel_px < SHARPEST_BLUR_PX:
        return [(0.0, (0.0, 0.0))]
    count = max(pairs, min(MOST_PAIRS, math.ceil(travel_px / (2 * BLUR_STEP_PX))))
    shifts = torch.zeros(count, 2)
    if pairs > 1:
        shifts = torch.frac(torch.arange(1, count + 1)[:, None] * _SPREAD)
        shifts = shifts - shifts.mean(dim=0)
    exposures = []
    for number, (x, y) in enumerate(shifts.tolist()):
        time = shutter * (2 * number + 1) / (4 * count)
        exposures += [(-time, (x, y)), (time, (x, y))]
    return exposures


_SPREAD = torch.tensor([0.7548776662, 0.5698402910])  # evenly spread points: the R2 sequence


def _region(layer: Layer, pose: Pose, size: Size) -> Region:
    """Find the rows and columns of the frame that a layer or its shadow can touch."""
    spare = 2.0 + (max(SHADOW_SHIFT_PX) + SHADOW_SOFTNESS_PX if layer.shadow else 0.0)
    low, high = bounding_box(layer, pose)
    left, top = (low.reshape(-1, 2).amin(0) - spare).tolist()
    right, bottom = (high.reshape(-1, 2).amax(0) + spare).tolist()
    return _pixels_between(top, bottom, size[0]), _pixels_between(left, right, size[1])


def _pixels_between(low: float, high: float, length: int) -> slice:
    """Find the pixels of 0 .. length - 1 that the interval from ``low`` to ``high`` touches."""
    start = max(0, min(length, math.floor(low)))
    stop = max(0, min(length, math.ceil(high) + 1))
    return slice(start, stop)
