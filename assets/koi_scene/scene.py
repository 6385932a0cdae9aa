"""The scene of the bundled clip: look-alike koi under drifting lily pads, over a shimmering bed of pebbles.

It is hard on purpose, in the ways that matter to a tracker: pebbles, scales and veins repeat; the fish
resemble each other, bend, turn, cross, pass under leaves, leave the frame and return; light ripples over
everything.
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
BED_SIZE: Size = (400, 640)
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
    coat: int  # number of its ``_Coat``


@dataclass(frozen=True)
class _Lily:
    """How one leaf floats, in world pixels and radians."""

    start: tuple[float, float]
    drift_px: tuple[float, float]  # a frame
    angle: float
    spin: float  # a frame
    scale: float
    depth: float


@dataclass(frozen=True)
class _Coat:
    """The colours of a koi: patches on white, and dark spots."""

    patch: tuple[float, float, float]  # red, green, blue
    patched: float  # higher for more patches
    spotless: float  # higher for fewer dark spots


_COATS = (
    _Coat((0.90, 0.33, 0.10), -0.1, 0.9),
    _Coat((0.88, 0.24, 0.09), 0.2, 1.0),
    _Coat((0.95, 0.60, 0.16), 0.7, 1.1),
)
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
_RIPPLES = (  # of light: angle in radians, length in pixels, radians a frame
    (0.4, 95.0, 0.42),
    (1.5, 70.0, -0.36),
    (2.6, 130.0, 0.25),
    (5.2, 55.0, 0.5),
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


def _colour(device: torch.device, red: float, green: float, blue: float) -> Tensor:
    """(3, 1, 1) one colour, to be expanded over a picture."""
    return torch.tensor([red, green, blue], device=device)[:, None, None]


def _camera(device: torch.device) -> Similarity:
    """A hand-held drift, with a slow turn and approach."""
    t = _frames(device)
    x = 0.9 * t - 18 + 5 * torch.sin(t / 7)
    y = 10 * torch.sin(t / 13 + 0.5) - 6
    return Similarity(torch.stack([x, y], -1), 0.09 * torch.sin(t / 15 - 0.6), 1 + 0.004 * t)


def _bed(generator: torch.Generator, camera: Similarity) -> Layer:
    """Pebbles on the ground, seen through ripples that make them appear to move."""
    device = generator.device
    t = _frames(device)
    still = Similarity(torch.zeros(FRAMES, 2, device=device), torch.zeros_like(t), torch.ones_like(t))
    wave = torch.tensor([[0.045, 0.012], [-0.016, 0.050], [0.021, -0.026]], device=device)
    push = torch.tensor([[0.9, 0.6], [0.8, -0.9], [1.6, 1.3]], device=device)
    first_phase = torch.tensor([0.0, 2.0, 4.0], device=device)
    per_frame = torch.tensor([0.33, 0.26, -0.17], device=device)
    pose = seen_by(camera, still, running_phase(first_phase, per_frame, FRAMES), SIZE, 0.85)
    return Layer(_bed_texture(generator), pose, 100 + 0 * t, wave, push)


def _bed_texture(generator: torch.Generator) -> Tensor:
    """(4, h, w) of pebbles of two sizes, large ones in front of small ones."""
    device, size = generator.device, BED_SIZE
    wall, value = cells(generator, size, 23)
    small_wall, small_value = cells(generator, size, 10)
    stone = torch.tensor(
        [[0.22, 0.29, 0.30], [0.40, 0.42, 0.36], [0.56, 0.50, 0.38], [0.80, 0.72, 0.58], [0.42, 0.50, 0.52]],
        device=device,
    )
    # darker towards the walls between the pebbles
    large = paint(value + 0.05 * noise(generator, size, 12), stone) * (0.55 + 0.45 * (wall / 7).clamp(0, 1))
    small = paint(small_value, stone) * (0.5 + 0.4 * (small_wall / 3).clamp(0, 1))
    colour = mix(small, large, torch.sigmoid((wall - 1.2) * 2) * (value > 0.25))
    depth = noise(generator, size, 220, 3)
    colour = colour * (0.95 + 0.10 * depth) + 0.02 * noise(generator, size, 5, 3)
    colour = colour * _colour(device, 0.78, 0.95, 0.92)  # of the water
    return torch.cat([colour.clamp(0, 1), torch.full((1, *size), 1e3, device=device)])


def _fish(generator: torch.Generator, camera: Similarity, koi: _Koi) -> Layer:
    """A koi whose body bends in a wave that runs to its tail as it swims."""
    device = generator.device
    t = _frames(device)
    x, y = koi.start  # also the phases of its rhythm
    angle = koi.heading + koi.turn * t + koi.swing * torch.sin(t / 6 + x)
    pace = koi.speed_px * (1 + 0.25 * torch.sin(t / 5 + y))
    scale = koi.scale * (1 + 0.05 * torch.sin(t / 11 + x))
    world = Similarity(swim(koi.start, angle, pace), angle, scale)
    wave = torch.tensor([[0.036, 0.0], [0.018, 0.0]], device=device)
    push = torch.tensor([[0.0, 5.5], [0.0, 4.0]], device=device)
    first_phase = torch.tensor([x / 30, y / 30], device=device)
    per_frame = torch.tensor([0.62, 0.31], device=device)
    pose = seen_by(camera, world, running_phase(first_phase, per_frame, FRAMES), SIZE, 0.92)
    return Layer(_koi_texture(generator, _COATS[koi.coat]), pose, koi.depth + 0 * t, wave, push, shadow=0.35)


def _koi_texture(generator: torch.Generator, coat: _Coat) -> Tensor:
    """(4, h, w) of a koi seen from above, its head towards +x."""
    device = generator.device
    grid = canonical_grid(FISH_SIZE, device)
    x, y = grid[..., 0], grid[..., 1].abs()
    body = _body_outline(x, y)
    margin = torch.maximum(torch.maximum(body, _tail_outline(x, y)), _fins_outline(x, y))
    # body in front of fins and tail, which have rays
    rays = 0.5 + 0.35 * torch.sin(y * 1.6 - 0.25 * x)
    fin_colours = torch.tensor([[0.55, 0.32, 0.20], [0.96, 0.88, 0.80]], device=device)
    coloured = _coat_texture(generator, coat, grid, body)
    colour = mix(paint(0.35 + 0.4 * rays, fin_colours), coloured, torch.sigmoid(body * 1.5))
    eye = ((x - 60) ** 2 + (y - 10.5) ** 2).sqrt()
    colour = mix(colour, torch.full_like(colour, 0.05), torch.sigmoid((2.6 - eye) * 3))
    return torch.cat([colour.clamp(0, 1), margin[None].clamp(min=-40)])


def _body_outline(x: Tensor, y: Tensor) -> Tensor:
    """(h, w) distance inside the body at ``x`` along it and ``y`` from its middle line."""
    along = ((x + 50) / 128).clamp(0, 1)  # 0 at the root of the tail, 1 at the nose
    half_width = 21.0 * along.pow(0.55) * (1 - along.pow(3.2)).clamp(min=0).sqrt() + 4.5 * (1 - along).pow(2)
    return torch.minimum(half_width - y, torch.minimum(77 - x, x + 54))


def _tail_outline(x: Tensor, y: Tensor) -> Tensor:
    """(h, w) distance inside a forked tail."""
    tail = torch.minimum(4 + (-44 - x) * 0.62 - y, torch.minimum(x + 84 - 0.10 * y, -44 - x))
    return torch.minimum(tail, y - (-66 - x) * 0.55)


def _fins_outline(x: Tensor, y: Tensor) -> Tensor:
    """(h, w) distance inside two pairs of fins, ellipses that slant backwards."""
    fins = torch.full_like(x, -1e3)
    for root, length, width in ((36.0, 23.0, 7.5), (-14.0, 14.0, 5.0)):
        across = y - 13
        back = root - x - 0.75 * (y - 13)
        ellipse = 1 - ((across - length / 2) / (length / 2 + 4)) ** 2 - (back / width) ** 2
        fins = torch.maximum(fins, ellipse * width / 2)
    return fins


def _coat_texture(generator: torch.Generator, coat: _Coat, grid: Tensor, margin: Tensor) -> Tensor:
    """(3, h, w) white skin with patches and a net of scales; darker to the flanks."""
    device = generator.device
    patches = noise(generator, FISH_SIZE, 42, 3)
    spots = noise(generator, FISH_SIZE, 26, 3)
    white = _colour(device, 0.93, 0.90, 0.84).expand(3, *FISH_SIZE)
    patch = _colour(device, *coat.patch).expand_as(white)
    colour = mix(white, patch, torch.sigmoid(7 * (patches + coat.patched)))
    colour = mix(colour, torch.full_like(colour, 0.10), torch.sigmoid(8 * (spots - coat.spotless)))
    scale = 2 * math.pi / 8.5
    net = torch.cos(scale * (grid[..., 0] + grid[..., 1])) * torch.cos(scale * (grid[..., 0] - grid[..., 1]))
    on_back = torch.sigmoid((46 - grid[..., 0]) * 0.4)
    shade = 1 - 0.10 * on_back * (net + 0.4) - 0.35 * torch.exp(-margin.clamp(min=0) / 3.5)
    return colour * shade + 0.018 * noise(generator, FISH_SIZE, 6, 3)


def _leaf(generator: torch.Generator, camera: Similarity, lily: _Lily) -> Layer:
    """A lily pad that floats, slowly turning, its rim moving with the ripples."""
    device = generator.device
    t = _frames(device)
    x, y = lily.start
    drift_x, drift_y = lily.drift_px
    shift = torch.stack([x + drift_x * t, y + drift_y * t + 3 * torch.sin(t / 8 + x)], -1)
    world = Similarity(shift, lily.angle + lily.spin * t, lily.scale + 0 * t)
    wave = torch.tensor([[0.05, 0.02], [-0.02, 0.05]], device=device)
    push = torch.tensor([[0.9, 0.9], [1.0, -0.8]], device=device)
    first_phase = torch.tensor([x, y], dtype=torch.float32, device=device)
    per_frame = torch.tensor([0.30, 0.24], device=device)
    pose = seen_by(camera, world, running_phase(first_phase, per_frame, FRAMES), SIZE, 1.1)
    return Layer(_leaf_texture(generator), pose, lily.depth + 0 * t, wave, push, shadow=0.5)


def _leaf_texture(generator: torch.Generator) -> Tensor:
    """(4, h, w) of a round leaf with a notch and veins that run from its heart."""
    device, size = generator.device, LEAF_SIZE
    grid = canonical_grid(size, device)
    x, y = grid[..., 0], grid[..., 1]
    radius, angle = grid.norm(dim=-1), torch.atan2(y, x)
    margin = torch.minimum(54 + 1.6 * torch.cos(5 * angle + 1) - radius, y.abs() - 0.30 * (x - 4))
    green = torch.tensor(
        [[0.07, 0.22, 0.10], [0.16, 0.40, 0.14], [0.30, 0.55, 0.20], [0.50, 0.62, 0.26]], device=device
    )
    bent = angle + 0.05 * noise(generator, size, 40, 3)
    branches = torch.exp(-(torch.sin(bent * 14 + 0.2).abs() * radius / 8))
    veins = torch.exp(-(torch.sin(bent * 7).abs() * radius / 9)) + 0.6 * branches * (radius > 26)
    rim = torch.exp(-margin.clamp(min=0) / 2.5)
    tone = 0.42 + 0.11 * noise(generator, size, 34) + 0.30 * veins - 0.25 * rim
    colour = paint(tone, green)
    spots = torch.sigmoid(9 * (noise(generator, size, 13, 2) - 2.0))
    colour = mix(colour, _colour(device, 0.45, 0.33, 0.12).expand_as(colour), 0.8 * spots)
    return torch.cat([colour.clamp(0, 1), margin[None].clamp(min=-40)])


def _light(generator: torch.Generator) -> Tensor:
    """(T, h, w) sunlight that ripples over the pond and fades a little."""
    device = generator.device
    grid = canonical_grid((36, 64), device) * 8
    t = _frames(device)[:, None, None]
    ripple = torch.zeros(FRAMES, 36, 64, device=device)
    for angle, length_px, speed in _RIPPLES:
        turn = 2 * math.pi / length_px
        place = turn * (math.cos(angle) * grid[..., 0] + math.sin(angle) * grid[..., 1])
        ripple += torch.sin(place + speed * t + 1.5 * torch.sin(place * 0.37 - 0.3 * t + angle))
    edge = (grid / 300).norm(dim=-1)
    light: Tensor = (1.08 - 0.16 * edge**2) * (1 + 0.055 * ripple) * (1 + 0.06 * torch.sin(t / 9 + 1))
    return light
