"""Random scenes, no two alike, to train trackers and flow on."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.synthetic.layers import Layer, to_canonical
from t4g_tracker.synthetic.motion import Similarity, seen_by
from t4g_tracker.synthetic.random_motion import (
    log_uniform,
    pace_px,
    random_bend,
    random_tilt,
    smooth_path,
    wander,
)
from t4g_tracker.synthetic.scene import Scene
from t4g_tracker.synthetic.surfaces import SurfaceConfig, random_surface
from t4g_tracker.synthetic.textures import (
    blob_outline,
    choice,
    foliage_outline,
    sticks_outline,
    uniform,
)

OBJECTS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8)  # objects of a scene; each entry is equally likely
STILL_CAMERA = 0.2  # share of clips whose background does not move
CARRIED = 0.3  # share of objects that move with the background, or nearly so
LACEWORK = 0.25  # share of clips seen through leaves or a fence
MARGIN_INSIDE_PX = 1e3  # distance of a background's points to its outline, since it has none


def random_scene(
    generator: torch.Generator, frames: int, size: Size, surfaces: SurfaceConfig | None = None
) -> Scene:
    """Generate a scene: a background and up to eight objects, each with its own texture and motion.

    Speeds are spread evenly on a logarithmic scale, from a twentieth of a pixel a frame to
    crossing the frame in a few frames; one camera in five does not move. Objects cross,
    hide each other, change size, leave and return; some are thin.

    Args:
        generator: Random numbers; the scene lives on its device.
        frames: T, at least 2.
        size: (H, W) in pixels.
        surfaces: Shares of photographs, patterns and flat areas; None for the default.

    Returns:
        The scene. Its background is layer 0 and covers every frame. The same generator
        state gives the same scene.

    Raises:
        TrackerError: If photographs are needed and scikit-image is not installed.
    """
    surfaces = surfaces or SurfaceConfig()
    unit_px = math.sqrt(size[0] * size[1])
    pace = 0.0 if uniform(generator, 0, 1) < STILL_CAMERA else pace_px(generator, unit_px)
    camera = wander(generator, frames, pace, unit_px, 0.3, 0.15)
    layers = [_background(generator, camera, pace, size, surfaces)]
    count = OBJECTS[choice(generator, len(OBJECTS))]
    layers += [_object(generator, camera, size, float(count - number), surfaces) for number in range(count)]
    if uniform(generator, 0, 1) < LACEWORK:
        layers.append(_lacework(generator, camera, size, surfaces))
    return Scene(
        tuple(layers),
        _light(generator, frames),
        size,
        shutter=max(0.0, uniform(generator, -0.4, 0.6)),
        noise=max(0.0, uniform(generator, -0.015, 0.025)),
    )


def _object(
    generator: torch.Generator, camera: Similarity, size: Size, depth: float, surfaces: SurfaceConfig
) -> Layer:
    """Generate an object with its own outline, texture and path."""
    frames, unit_px = len(camera.angle), math.sqrt(size[0] * size[1])
    extent: Size = (
        round(log_uniform(generator, 0.08, 0.8) * unit_px) + 8,
        round(log_uniform(generator, 0.08, 0.8) * unit_px) + 8,
    )
    texture = torch.cat(
        [random_surface(generator, extent, surfaces), _outline(generator, extent)[None].clamp(min=-40)]
    )
    carried = uniform(generator, 0, 1) < CARRIED
    pace = log_uniform(generator, 0.02, 1.0) if carried else pace_px(generator, unit_px, 0.2)
    nearness = 1.0 if carried else uniform(generator, 0.95, 1.4)
    path = wander(generator, frames, pace, unit_px, 0.5, 1.5)
    home = path.shift.new_tensor(
        [uniform(generator, -0.5, 0.5) * size[1], uniform(generator, -0.5, 0.5) * size[0]]
    )
    angle = uniform(generator, -0.3, 0.3) if uniform(generator, 0, 1) < 0.6 else uniform(generator, 0, 6.28)
    world = Similarity(path.shift + home, path.angle + angle, path.scale)
    wave, push, phase = random_bend(generator, frames, float(max(extent)), 0.5 * pace, share=0.4)
    pose = seen_by(camera, world, phase, size, nearness)
    half_px = math.hypot(*extent) / 2
    pose = replace(pose, tilt=random_tilt(generator, frames, half_px, 0.5 * pace, share=0.4))
    shadow = max(0.0, uniform(generator, -1.2, 0.5))
    return Layer(texture, pose, texture.new_full((frames,), depth), wave, push, shadow)


def _outline(generator: torch.Generator, extent: Size) -> Tensor:
    """Generate the outline of a blob, a ring, a few thin bars or a piece of lace: (h, w) distance inside."""
    kind = uniform(generator, 0, 1)
    if kind < 0.2:
        return sticks_outline(generator, extent)
    if kind < 0.27:
        return foliage_outline(generator, extent, uniform(generator, 8, 40), uniform(generator, 0.3, 0.7))
    margin = blob_outline(generator, extent, uniform(generator, 0.0, 0.45))
    if kind < 0.35:  # a ring with a hole to see through
        margin = torch.minimum(margin, uniform(generator, 0.1, 0.5) * float(margin.max()) - margin)
    return margin


def _lacework(generator: torch.Generator, camera: Similarity, size: Size, surfaces: SurfaceConfig) -> Layer:
    """Generate leaves or a fence in front of everything."""
    frames, unit_px = len(camera.angle), math.sqrt(size[0] * size[1])
    extent: Size = (round(0.8 * size[0]), round(0.9 * size[1]))
    scale_px = uniform(generator, 0.03, 0.2) * unit_px
    margin = foliage_outline(generator, extent, scale_px, uniform(generator, 0.1, 0.4))
    texture = torch.cat([random_surface(generator, extent, surfaces), margin[None].clamp(min=-40)])
    pace = pace_px(generator, unit_px, 0.2)
    world = wander(generator, frames, pace, unit_px, 0.35, 0.15)
    wave, push, phase = random_bend(generator, frames, unit_px, 0.5 * pace, share=0.5)
    return Layer(texture, seen_by(camera, world, phase, size, 1.4), texture.new_zeros(frames), wave, push)


def _background(
    generator: torch.Generator, camera: Similarity, pace: float, size: Size, surfaces: SurfaceConfig
) -> Layer:
    """Generate a background just large enough that the camera never sees its border."""
    frames = len(camera.angle)
    still = wander(generator, frames, 0.0, 1.0, 0.0, 0.0)
    wave, push, phase = random_bend(generator, frames, 1.5 * max(size), 0.5 * pace, share=0.3)
    pose = seen_by(camera, still, phase, size)
    depth = phase.new_full((frames,), 1e3)
    probe = Layer(phase.new_zeros(4, 2, 2), pose, depth, wave, push)
    half_px = math.hypot(*_farthest_seen(probe, size)) + probe.reach
    tilt = random_tilt(generator, frames, 1.3 * half_px, 0.5 * pace, share=0.5)
    probe = replace(probe, pose=replace(pose, tilt=tilt))
    half = [math.ceil(reach) + 2 for reach in _farthest_seen(probe, size)]
    extent: Size = (2 * half[1], 2 * half[0])
    margin = phase.new_full((1, *extent), MARGIN_INSIDE_PX)
    return replace(probe, texture=torch.cat([random_surface(generator, extent, surfaces), margin]))


def _farthest_seen(layer: Layer, size: Size) -> list[float]:
    """Compute how far from a layer's middle a frame's border reaches, in x and in y, canonical pixels."""
    device = layer.depth.device
    steps = torch.linspace(-0.02, 1.02, 33, device=device)
    ends = torch.tensor([-0.02, 1.02], device=device)
    border = torch.cat([torch.cartesian_prod(steps, ends), torch.cartesian_prod(ends, steps)])
    border = border * border.new_tensor([size[1], size[0]])
    seen = to_canonical(layer, layer.pose.widen(1), border).abs()
    farthest: list[float] = seen.reshape(-1, 2).amax(0).tolist()
    return farthest


def _light(generator: torch.Generator, frames: int) -> Tensor:
    """Generate exposure (T, h, w): even in half of the clips, else slowly changing or with drifting shade."""
    device = generator.device
    kind = uniform(generator, 0, 1)
    change = smooth_path(generator, frames, 2, 0.05, 1.0)[:, :, None, None]
    if kind < 0.5:
        return torch.ones(frames, 1, 1, device=device)
    exposure = 1 + uniform(generator, 0.0, 0.2) * change[:, 0]
    if kind < 0.75:
        return exposure
    shade = torch.randn(2, 1, 5, 8, generator=generator, device=device)
    return exposure * (1 + uniform(generator, 0.0, 0.12) * (shade[0] + shade[1] * change[:, 1])).clamp(
        0.4, 1.6
    )
