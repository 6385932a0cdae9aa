"""Scenes drawn at random, no two alike: what trackers and flow are trained on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.training.layers import Layer, Pose, pose_at, to_canonical
from t4g_tracker.training.motion import Similarity, seen_by
from t4g_tracker.training.synthetic import Scene
from t4g_tracker.training.textures import (
    blob_outline,
    choice,
    foliage_outline,
    random_texture,
    uniform,
)

FEWEST_OBJECTS, MOST_OBJECTS = 3, 7
MARGIN_INSIDE_PX = 1e3  # a background has no outline; every point of it lies this far inside


def random_scene(generator: torch.Generator, frames: int, size: Size) -> Scene:
    """Draw a scene: a background and several objects, each with its own texture and motion.

    Motions are smooth sums of slow waves, from almost still to a third of the frame in
    a few frames; objects cross, hide each other, change size, leave and return. About
    one scene in three has a lacework in front, as leaves or a fence.

    Args:
        generator: Random numbers; the scene lives on its device.
        frames: T, at least 2.
        size: (H, W) in pixels.

    Returns:
        The scene. Its background is layer 0 and covers every frame. The same generator
        state gives the same scene.
    """
    unit_px = math.sqrt(size[0] * size[1])
    camera = _wander(generator, frames, uniform(generator, 0.0, 0.12) * unit_px, 0.12, 0.12)
    layers = [_background(generator, camera, frames, size)]
    count = FEWEST_OBJECTS + choice(generator, MOST_OBJECTS - FEWEST_OBJECTS + 1)
    layers += [_object(generator, camera, frames, size, float(count - number)) for number in range(count)]
    if uniform(generator, 0, 1) < 0.33:
        layers.append(_lacework(generator, camera, frames, size))
    return Scene(
        tuple(layers),
        _light(generator, frames),
        size,
        shutter=uniform(generator, 0.0, 0.5),
        noise=uniform(generator, 0.0, 0.025),
    )


def _waves(generator: torch.Generator, frames: int, channels: int) -> Tensor:
    """(T, channels) smooth curves in about -1..1, each of three slow waves."""
    device = generator.device
    t = torch.arange(frames, device=device)[:, None, None] / 24
    cycles = torch.tensor([0.25, 0.6, 1.3], device=device)
    weight = torch.tensor([0.6, 0.3, 0.12], device=device)
    turns = torch.rand(channels, 3, generator=generator, device=device)
    speed = cycles * (0.6 + 0.8 * torch.rand(channels, 3, generator=generator, device=device))
    return (weight * torch.sin(2 * math.pi * (speed * t + turns))).sum(-1)


def _wander(
    generator: torch.Generator, frames: int, reach_px: float, turn: float, growth: float
) -> Similarity:
    """A smooth path within about ``reach_px`` of the origin, with turns and growth."""
    wave = _waves(generator, frames, 4)
    return Similarity(reach_px * wave[:, :2], turn * wave[:, 2], torch.exp(growth * wave[:, 3]))


def _bend(generator: torch.Generator, frames: int, extent_px: float) -> tuple[Tensor, Tensor, Tensor]:
    """Waves (K, 2), pushes (K, 2) and phases (T, K) of a bend, stiff or soft."""
    device, count = generator.device, 3
    angle = 2 * math.pi * torch.rand(count, 2, generator=generator, device=device)
    length_px = extent_px * (0.5 + torch.rand(count, generator=generator, device=device))
    number = 2 * math.pi / length_px
    slope = uniform(generator, 0.0, 0.4) * torch.softmax(
        torch.randn(count, generator=generator, device=device), 0
    )
    wave = torch.stack([torch.cos(angle[:, 0]), torch.sin(angle[:, 0])], -1) * number[:, None]
    push = torch.stack([torch.cos(angle[:, 1]), torch.sin(angle[:, 1])], -1) * (slope / number)[:, None]
    phase = math.pi * uniform(generator, 0.3, 1.5) * _waves(generator, frames, count)
    return wave, push, phase


def _object(generator: torch.Generator, camera: Similarity, frames: int, size: Size, depth: float) -> Layer:
    """A blob with a texture of its own on a path of its own."""
    unit_px = math.sqrt(size[0] * size[1])
    side = [
        round(unit_px * math.exp(uniform(generator, math.log(0.12), math.log(0.55)))) + 8 for _ in range(2)
    ]
    extent: Size = (side[0], side[1])
    texture = random_texture(generator, extent)
    margin = blob_outline(generator, extent, uniform(generator, 0.0, 0.45))
    if uniform(generator, 0, 1) < 0.15:  # a ring, through which one sees
        margin = torch.minimum(margin, 0.5 * float(margin.max()) - margin)
    path = _wander(
        generator, frames, uniform(generator, 0.02, 0.45) * unit_px, uniform(generator, 0.05, 1.2), 0.2
    )
    home = path.shift.new_tensor(
        [uniform(generator, -0.5, 0.5) * size[1], uniform(generator, -0.5, 0.5) * size[0]]
    )
    world = Similarity(path.shift + home, path.angle + uniform(generator, 0, 2 * math.pi), path.scale)
    wave, push, phase = _bend(generator, frames, float(max(extent)))
    pose = seen_by(camera, world, phase, size, uniform(generator, 0.9, 1.2))
    shadow = uniform(generator, -0.4, 0.5)
    return Layer(
        torch.cat([texture, margin[None].clamp(min=-40)]),
        pose,
        texture.new_full((frames,), depth),
        wave,
        push,
        max(0.0, shadow),
    )


def _lacework(generator: torch.Generator, camera: Similarity, frames: int, size: Size) -> Layer:
    """Leaves or a fence in front of everything."""
    unit_px = math.sqrt(size[0] * size[1])
    extent: Size = (round(0.8 * size[0]), round(0.9 * size[1]))
    scale_px = uniform(generator, 0.06, 0.2) * unit_px
    margin = foliage_outline(generator, extent, scale_px, uniform(generator, 0.15, 0.4))
    texture = torch.cat([random_texture(generator, extent), margin[None].clamp(min=-40)])
    world = _wander(generator, frames, 0.35 * unit_px, 0.1, 0.05)
    wave, push, phase = _bend(generator, frames, unit_px)
    return Layer(texture, seen_by(camera, world, phase, size, 1.4), texture.new_zeros(frames), wave, push)


def _background(generator: torch.Generator, camera: Similarity, frames: int, size: Size) -> Layer:
    """A texture just large enough that the camera never sees its end."""
    world = _wander(generator, frames, 0.0, 0.05, 0.03)
    wave, push, phase = _bend(generator, frames, 1.5 * max(size))
    pose = seen_by(camera, world, phase, size, 0.8)
    depth = phase.new_full((frames,), 1e3)
    probe = Layer(phase.new_zeros(4, 2, 2), pose, depth, wave, push)
    half = [math.ceil(reach) + 2 for reach in _farthest_seen(probe, pose, frames, size)]
    extent: Size = (2 * half[1], 2 * half[0])
    margin = phase.new_full((1, *extent), MARGIN_INSIDE_PX)
    return Layer(torch.cat([random_texture(generator, extent), margin]), pose, depth, wave, push)


def _farthest_seen(layer: Layer, pose: Pose, frames: int, size: Size) -> list[float]:
    """How far from a layer's middle a frame's border reaches, in x and in y, canonical pixels."""
    steps = torch.linspace(-0.02, 1.02, 33, device=pose.phase.device)
    ends = torch.tensor([-0.02, 1.02], device=pose.phase.device)
    border = torch.cat([torch.cartesian_prod(steps, ends), torch.cartesian_prod(ends, steps)])
    border = border * border.new_tensor([size[1], size[0]])
    seen = [to_canonical(layer, pose_at(pose, frame), border).abs().amax(0) for frame in range(frames)]
    farthest: list[float] = torch.stack(seen).amax(0).tolist()
    return farthest


def _light(generator: torch.Generator, frames: int) -> Tensor:
    """(T, h, w) exposure that changes slowly, and soft shade that lies over the frame."""
    device = generator.device
    exposure = 1 + uniform(generator, 0.0, 0.15) * _waves(generator, frames, 1)[:, :, None]
    shade = torch.randn(1, 5, 8, generator=generator, device=device)
    drift = (
        torch.randn(1, 5, 8, generator=generator, device=device) * _waves(generator, frames, 1)[:, :, None]
    )
    return exposure * (1 + uniform(generator, 0.0, 0.1) * (shade + drift)).clamp(0.4, 1.6)
