"""The bundled example: look-alike koi under drifting lily pads, over a shimmering bed of pebbles.

It is made to be hard in the ways that matter here: pebbles, scales and veins repeat;
the fish resemble each other, bend, turn, cross, pass under leaves and leave the frame
and return; light ripples over everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.synthetic.layers import Layer
from t4g_tracker.synthetic.motion import Similarity, running_phase, seen_by, swim
from t4g_tracker.synthetic.scene import Scene
from t4g_tracker.synthetic.textures import canonical_grid, cells, mix, noise, paint

FRAMES = 40
SIZE: Size = (288, 512)
FISH_SIZE: Size = (84, 176)
LEAF_SIZE: Size = (116, 116)


@dataclass(frozen=True)
class _Koi:
    """How one fish swims, in world pixels and radians, and what it looks like."""

    start: tuple[float, float]
    heading: float
    turn: float  # of the heading, a frame
    swing: float  # of the heading, to either side
    speed_px: float  # a frame
    scale: float
    depth: float
    coat: int


@dataclass(frozen=True)
class _Lily:
    """How one leaf floats, in world pixels and radians."""

    start: tuple[float, float]
    drift_px: tuple[float, float]  # a frame
    angle: float
    spin: float  # a frame
    scale: float
    depth: float


_FISH = (
    _Koi((-175, 55), -0.35, 0.006, 0.15, 7.6, 1.00, 5.0, 0),
    _Koi((185, -75), 2.75, -0.004, 0.12, 7.2, 0.92, 6.0, 0),
    _Koi((-120, -130), 1.10, -0.022, 0.10, 6.4, 0.80, 7.0, 1),
    _Koi((120, 120), -2.30, 0.045, 0.10, 8.4, 0.95, 4.0, 1),
    _Koi((-215, -60), 0.30, -0.012, 0.12, 5.4, 0.72, 8.0, 2),
    _Koi((225, 40), -2.60, 0.165, 0.05, 9.0, 0.85, 4.5, 2),
)
_LEAVES = (
    _Lily((-95, -35), (0.2, 0.10), 0.4, 0.012, 0.72, 1.0),
    _Lily((75, 20), (0.3, 0.25), 2.6, -0.010, 0.66, 1.5),
    _Lily((-20, 112), (1.4, -0.50), 4.4, 0.008, 0.56, 2.0),
    _Lily((195, -45), (-0.6, 0.30), 1.4, -0.014, 0.60, 2.5),
    _Lily((-205, -100), (0.8, 0.40), 5.3, 0.010, 0.80, 3.0),
)


def koi_pond(generator: torch.Generator) -> Scene:
    """Make the scene.

    Args:
        generator: Random numbers for the textures; the scene lives on its device.

    Returns:
        40 frames of 288x512. Layer 0 is the bed, then the fish, then the lily pads.
    """
    camera = _camera(generator.device)
    layers = [_bed(generator, camera)]
    layers += [_fish(generator, camera, koi) for koi in _FISH]
    layers += [_leaf(generator, camera, lily) for lily in _LEAVES]
    return Scene(tuple(layers), _light(generator), SIZE, shutter=0.35, noise=0.012)


def layer_name(index: int) -> str:
    """What a layer of the pond is called: bed, koi-1 ... koi-6, lily-1 ... lily-5."""
    if index == 0:
        return "bed"
    return f"koi-{index}" if index <= len(_FISH) else f"lily-{index - len(_FISH)}"


def _frames(device: torch.device) -> Tensor:
    return torch.arange(FRAMES, dtype=torch.float32, device=device)


def _camera(device: torch.device) -> Similarity:
    """A hand-held drift, with a slow turn and approach."""
    t = _frames(device)
    shift = torch.stack([0.9 * t - 18 + 5 * torch.sin(t / 7), 10 * torch.sin(t / 13 + 0.5) - 6], -1)
    return Similarity(shift, 0.09 * torch.sin(t / 15 - 0.6), 1 + 0.004 * t)


def _bed(generator: torch.Generator, camera: Similarity) -> Layer:
    """Pebbles of several sizes, seen through ripples."""
    device, size = generator.device, (400, 640)
    wall, value = cells(generator, size, 23)
    small_wall, small_value = cells(generator, size, 10)
    stone = torch.tensor(
        [[0.22, 0.29, 0.30], [0.40, 0.42, 0.36], [0.56, 0.50, 0.38], [0.80, 0.72, 0.58], [0.42, 0.50, 0.52]],
        device=device,
    )
    large = paint(value + 0.05 * noise(generator, size, 12), stone) * (0.55 + 0.45 * (wall / 7).clamp(0, 1))
    fine = paint(small_value, stone) * (0.5 + 0.4 * (small_wall / 3).clamp(0, 1))
    colour = mix(fine, large, torch.sigmoid((wall - 1.2) * 2) * (value > 0.25))
    depth = noise(generator, size, 220, 3)
    colour = colour * (0.95 + 0.10 * depth) + 0.02 * noise(generator, size, 5, 3)
    tint = torch.tensor([0.78, 0.95, 0.92], device=device)[:, None, None]
    texture = torch.cat([(colour * tint).clamp(0, 1), torch.full((1, *size), 1e3, device=device)])
    t = _frames(device)
    still = Similarity(torch.zeros(FRAMES, 2, device=device), torch.zeros_like(t), torch.ones_like(t))
    wave = torch.tensor([[0.045, 0.012], [-0.016, 0.050], [0.021, -0.026]], device=device)
    push = torch.tensor([[0.9, 0.6], [0.8, -0.9], [1.6, 1.3]], device=device)
    phase = running_phase(
        torch.tensor([0.0, 2.0, 4.0], device=device), _row(device, 0.33, 0.26, -0.17), FRAMES
    )
    return Layer(texture, seen_by(camera, still, phase, SIZE, 0.85), 100 + 0 * t, wave, push)


def _row(device: torch.device, *values: float) -> Tensor:
    return torch.tensor(values, device=device)


def _fish(generator: torch.Generator, camera: Similarity, koi: _Koi) -> Layer:
    """A koi whose body bends in a wave that runs to its tail as it swims."""
    device = generator.device
    t = _frames(device)
    x, y = koi.start
    angle = koi.heading + koi.turn * t + koi.swing * torch.sin(t / 6 + x)
    pace = koi.speed_px * (1 + 0.25 * torch.sin(t / 5 + y))
    scale = koi.scale * (1 + 0.05 * torch.sin(t / 11 + x))
    world = Similarity(swim(koi.start, angle, pace), angle, scale)
    wave = torch.tensor([[0.036, 0.0], [0.018, 0.0]], device=device)
    push = torch.tensor([[0.0, 5.5], [0.0, 4.0]], device=device)
    phase = running_phase(_row(device, x / 30, y / 30), _row(device, 0.62, 0.31), FRAMES)
    pose = seen_by(camera, world, phase, SIZE, 0.92)
    return Layer(_koi_texture(generator, koi.coat), pose, koi.depth + 0 * t, wave, push, shadow=0.35)


def _koi_texture(generator: torch.Generator, coat: int) -> Tensor:
    """(4, h, w) of a koi seen from above, its head towards +x."""
    device = generator.device
    grid = canonical_grid(FISH_SIZE, device)
    x, y = grid[..., 0], grid[..., 1].abs()
    along = ((x + 50) / 128).clamp(0, 1)  # 0 at the root of the tail, 1 at the nose
    body = 21.0 * along.pow(0.55) * (1 - along.pow(3.2)).clamp(min=0).sqrt() + 4.5 * (1 - along).pow(2)
    body_margin = torch.minimum(body - y, torch.minimum(77 - x, x + 54))
    tail = torch.minimum(4 + (-44 - x) * 0.62 - y, torch.minimum(x + 84 - 0.10 * y, -44 - x))
    tail = torch.minimum(tail, y - (-66 - x) * 0.55)
    fins = torch.full_like(x, -1e3)
    for root, length, width in ((36.0, 23.0, 7.5), (-14.0, 14.0, 5.0)):
        across, back = y - 13, root - x - 0.75 * (y - 13)
        fins = torch.maximum(
            fins, (1 - ((across - length / 2) / (length / 2 + 4)) ** 2 - (back / width) ** 2) * width / 2
        )
    margin = torch.maximum(torch.maximum(body_margin, tail), fins)
    colour = _coat(generator, coat, grid, body_margin)
    rays = 0.5 + 0.35 * torch.sin(y * 1.6 - 0.25 * x)
    fin_colour = paint(0.35 + 0.4 * rays, _row(device, 0.55, 0.32, 0.20, 0.96, 0.88, 0.80).reshape(2, 3))
    colour = mix(fin_colour, colour, torch.sigmoid(body_margin * 1.5))
    eye = ((x - 60) ** 2 + (y - 10.5) ** 2).sqrt()
    colour = mix(colour, torch.full_like(colour, 0.05), torch.sigmoid((2.6 - eye) * 3))
    return torch.cat([colour.clamp(0, 1), margin[None].clamp(min=-40)])


def _coat(generator: torch.Generator, coat: int, grid: Tensor, margin: Tensor) -> Tensor:
    """(3, h, w) white skin with patches and a net of scales; darker to the flanks."""
    device = generator.device
    red, black = noise(generator, FISH_SIZE, 42, 3), noise(generator, FISH_SIZE, 26, 3)
    white = _row(device, 0.93, 0.90, 0.84)[:, None, None].expand(3, *FISH_SIZE)
    patch = torch.tensor([[0.90, 0.33, 0.10], [0.88, 0.24, 0.09], [0.95, 0.60, 0.16]], device=device)[coat]
    colour = mix(
        white, patch[:, None, None].expand_as(white), torch.sigmoid(7 * (red + (-0.1, 0.2, 0.7)[coat]))
    )
    dark = torch.sigmoid(8 * (black - (0.9, 1.0, 1.1)[coat]))
    colour = mix(colour, torch.full_like(colour, 0.10), dark)
    scale = 2 * math.pi / 8.5
    net = torch.cos(scale * (grid[..., 0] + grid[..., 1])) * torch.cos(scale * (grid[..., 0] - grid[..., 1]))
    on_back = torch.sigmoid((46 - grid[..., 0]) * 0.4)
    shade = 1 - 0.10 * on_back * (net + 0.4) - 0.35 * torch.exp(-margin.clamp(min=0) / 3.5)
    return colour * shade + 0.018 * noise(generator, FISH_SIZE, 6, 3)


def _leaf(generator: torch.Generator, camera: Similarity, lily: _Lily) -> Layer:
    """A lily pad that floats, slowly turning, its rim moving with the ripples."""
    device = generator.device
    t = _frames(device)
    (x, y), (drift_x, drift_y) = lily.start, lily.drift_px
    shift = torch.stack([x + drift_x * t, y + drift_y * t + 3 * torch.sin(t / 8 + x)], -1)
    world = Similarity(shift, lily.angle + lily.spin * t, lily.scale + 0 * t)
    wave = torch.tensor([[0.05, 0.02], [-0.02, 0.05]], device=device)
    push = torch.tensor([[0.9, 0.9], [1.0, -0.8]], device=device)
    phase = running_phase(_row(device, x, y), _row(device, 0.30, 0.24), FRAMES)
    pose = seen_by(camera, world, phase, SIZE, 1.1)
    return Layer(_leaf_texture(generator), pose, lily.depth + 0 * t, wave, push, shadow=0.5)


def _leaf_texture(generator: torch.Generator) -> Tensor:
    """(4, h, w) of a round leaf with a notch and veins that run from its heart."""
    device = generator.device
    grid = canonical_grid(LEAF_SIZE, device)
    x, y = grid[..., 0], grid[..., 1]
    radius, angle = grid.norm(dim=-1), torch.atan2(y, x)
    margin = torch.minimum(54 + 1.6 * torch.cos(5 * angle + 1) - radius, y.abs() - 0.30 * (x - 4))
    green = torch.tensor(
        [[0.07, 0.22, 0.10], [0.16, 0.40, 0.14], [0.30, 0.55, 0.20], [0.50, 0.62, 0.26]], device=device
    )
    bent = angle + 0.05 * noise(generator, LEAF_SIZE, 40, 3)
    veins = torch.exp(-(torch.sin(bent * 7).abs() * radius / 9)) + 0.6 * torch.exp(
        -(torch.sin(bent * 14 + 0.2).abs() * radius / 8)
    ) * (radius > 26)
    tone = (
        0.42
        + 0.11 * noise(generator, LEAF_SIZE, 34)
        + 0.30 * veins
        - 0.25 * torch.exp(-margin.clamp(min=0) / 2.5)
    )
    colour = paint(tone, green)
    spots = torch.sigmoid(9 * (noise(generator, LEAF_SIZE, 13, 2) - 2.0))
    colour = mix(colour, _row(device, 0.45, 0.33, 0.12)[:, None, None].expand_as(colour), 0.8 * spots)
    return torch.cat([colour.clamp(0, 1), margin[None].clamp(min=-40)])


def _light(generator: torch.Generator) -> Tensor:
    """(T, h, w) sunlight that ripples over the pond and fades a little."""
    device = generator.device
    grid = canonical_grid((36, 64), device) * 8
    t = _frames(device)[:, None, None]
    ripple = torch.zeros(FRAMES, 36, 64, device=device)
    for angle, length_px, speed in (
        (0.4, 95.0, 0.42),
        (1.5, 70.0, -0.36),
        (2.6, 130.0, 0.25),
        (5.2, 55.0, 0.5),
    ):
        turn = 2 * math.pi / length_px
        place = turn * (math.cos(angle) * grid[..., 0] + math.sin(angle) * grid[..., 1])
        ripple += torch.sin(place + speed * t + 1.5 * torch.sin(place * 0.37 - 0.3 * t + angle))
    edge = (grid / 300).norm(dim=-1)
    light: Tensor = (1.08 - 0.16 * edge**2) * (1 + 0.055 * ripple) * (1 + 0.06 * torch.sin(t / 9 + 1))
    return light
