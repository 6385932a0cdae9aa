"""Procedural textures and outlines for synthetic clips, with detail at every scale, as in photographs."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Sample a number between ``low`` and ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator, device=generator.device))


def choice(generator: torch.Generator, count: int) -> int:
    """Sample a whole number from 0 to ``count - 1``."""
    return int(torch.randint(count, (), generator=generator, device=generator.device))


def canonical_grid(size: Size, device: torch.device) -> Tensor:
    """Make a grid (h, w, 2) of the pixel positions (x, y) of a texture, its middle at the origin."""
    y = torch.arange(size[0], device=device, dtype=torch.float32) - (size[0] - 1) / 2
    x = torch.arange(size[1], device=device, dtype=torch.float32) - (size[1] - 1) / 2
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def noise(generator: torch.Generator, size: Size, scale_px: float, octaves: int = 6) -> Tensor:
    """Generate smooth noise whose detail halves in size, and nearly in strength, with every octave.

    Args:
        generator: Random numbers; the noise lives on its device.
        size: (h, w) in pixels.
        scale_px: Size of the coarsest features.
        octaves: Number of scales to add; scales below a pixel are left out.

    Returns:
        (h, w), mean 0 and standard deviation 1.
    """
    total = torch.zeros(size, device=generator.device)
    for octave in range(octaves):
        cell = scale_px / 2**octave
        if cell < 1:
            break
        coarse = (max(2, round(size[0] / cell) + 3), max(2, round(size[1] / cell) + 3))
        grid = torch.randn(1, 1, *coarse, generator=generator, device=generator.device)
        total += 0.6**octave * interpolate(grid, size=size, mode="bicubic", align_corners=False)[0, 0]
    return (total - total.mean()) / total.std().clamp(min=1e-6)


def cells(generator: torch.Generator, size: Size, scale_px: float) -> tuple[Tensor, Tensor]:
    """Divide a texture into irregular cells, like pebbles, each around a random seed.

    Args:
        generator: Random numbers.
        size: (h, w) in pixels.
        scale_px: Distance between neighbouring seeds.

    Returns:
        (h, w) approximate distance in pixels from the nearest cell wall, and (h, w) one random
        number in 0..1 per cell.
    """
    rows = math.ceil(size[0] / scale_px) + 3
    columns = math.ceil(size[1] / scale_px) + 3
    # of each seed: its position inside its square of the grid, and the random number of its cell
    seeds = torch.rand(rows, columns, 3, generator=generator, device=generator.device)
    xy = canonical_grid(size, generator.device) + xy_half(size, generator.device)
    home = (xy / scale_px).floor().long() + 1
    nearest = torch.full(size, torch.inf, device=generator.device)
    second = nearest.clone()
    value = torch.zeros(size, device=generator.device)
    for step in range(9):  # the seeds of a pixel's own square and of its eight neighbours
        row = home[..., 1] + step // 3 - 1
        column = home[..., 0] + step % 3 - 1
        seed = seeds[row, column]
        where = torch.stack([column, row], -1) - 1 + 0.1 + 0.8 * seed[..., :2]
        distance = (xy - where * scale_px).norm(dim=-1)
        closer = distance < nearest
        second = torch.where(closer, nearest, torch.minimum(second, distance))
        nearest = torch.where(closer, distance, nearest)
        value = torch.where(closer, seed[..., 2], value)
    return (second - nearest) / 2, value


def xy_half(size: Size, device: torch.device) -> Tensor:
    """The middle (2,) of a texture as (x, y), counted from its first pixel."""
    return torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], device=device)


def paint(values: Tensor, colours: Tensor) -> Tensor:
    """Colour values in 0..1 (h, w) along a ramp of P colours (P, 3): (3, h, w)."""
    place = values.clamp(0, 1) * (len(colours) - 1)
    low = place.floor().long().clamp(max=len(colours) - 2)
    part = (place - low).unsqueeze(-1)
    return (colours[low] * (1 - part) + colours[low + 1] * part).movedim(-1, 0)


def mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Blend two pictures (3, h, w): the first where ``share`` (h, w) is 0, the second where it is 1."""
    return first + (second - first) * share


def random_colours(generator: torch.Generator, count: int) -> Tensor:
    """Sample colours (count, 3) of related hue, from dark to bright."""
    device = generator.device
    base = torch.rand(3, generator=generator, device=device)
    other = torch.randn(count, 3, generator=generator, device=device) * 0.18
    brightness = torch.linspace(0.2, 1.0, count, device=device)[:, None]
    return (brightness * (0.35 + 0.65 * base) + other).clamp(0.03, 0.97)


def random_texture(generator: torch.Generator, size: Size) -> Tensor:
    """Generate a random pattern of one of several kinds, bent and coloured, with fine grain.

    Args:
        generator: Random numbers; the texture lives on its device.
        size: (h, w) in pixels.

    Returns:
        (3, h, w) red, green and blue in 0..1.
    """
    ramp = noise(generator, size, uniform(generator, 24, 160))
    base = paint(0.5 + 0.25 * ramp, random_colours(generator, 4))
    scale_px = math.exp(uniform(generator, math.log(7), math.log(48)))
    pattern = _PATTERNS[choice(generator, len(_PATTERNS))](generator, size, scale_px)
    patterned = mix(base, paint(pattern, random_colours(generator, 3)), pattern)
    share = torch.sigmoid(2 + 3 * noise(generator, size, 120, 3))
    strength = uniform(generator, 0.2, 0.9)
    grain = noise(generator, size, uniform(generator, 6, 20), 4) * uniform(generator, 0.02, 0.09)
    return (mix(base, patterned, share * strength) + grain).clamp(0, 1)


def _bent_grid(generator: torch.Generator, size: Size, scale_px: float) -> Tensor:
    """Make a grid (h, w, 2) of positions in periods of a pattern, turned and gently bent."""
    angle = uniform(generator, 0, math.pi)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    grid = canonical_grid(size, generator.device) @ turn.to(generator.device)
    bend = torch.stack([noise(generator, size, 8 * scale_px, 2) for _ in range(2)], -1)
    return grid / scale_px + uniform(generator, 0.05, 0.5) * bend


def _stripes(generator: torch.Generator, size: Size, scale_px: float) -> Tensor:
    grid = _bent_grid(generator, size, scale_px)
    return torch.sigmoid(6 * torch.sin(2 * math.pi * grid[..., 0]))


def _checks(generator: torch.Generator, size: Size, scale_px: float) -> Tensor:
    waves = torch.sin(math.pi * _bent_grid(generator, size, scale_px))
    return torch.sigmoid(12 * waves[..., 0] * waves[..., 1])


def _spots(generator: torch.Generator, size: Size, scale_px: float) -> Tensor:
    wall, value = cells(generator, size, scale_px)
    return torch.sigmoid((wall - scale_px * (0.1 + 0.2 * value)) * 0.8) * (0.5 + 0.5 * value)


def _pebbles(generator: torch.Generator, size: Size, scale_px: float) -> Tensor:
    wall, value = cells(generator, size, scale_px)
    return (wall / (0.35 * scale_px)).clamp(0, 1).sqrt() * (0.25 + 0.75 * value)


def _clouds(generator: torch.Generator, size: Size, scale_px: float) -> Tensor:
    return torch.sigmoid(2 * noise(generator, size, scale_px))


_PATTERNS = (_stripes, _checks, _spots, _pebbles, _clouds)


def blob_outline(generator: torch.Generator, size: Size, roughness: float) -> Tensor:
    """Generate the outline of a random rounded shape that fits the texture.

    Args:
        generator: Random numbers.
        size: (h, w) in pixels.
        roughness: 0 for an ellipse, 0.3 for deep bays.

    Returns:
        (h, w) approximate distance in pixels of each pixel to the outline, negative outside.
    """
    radius_px = torch.tensor([size[1], size[0]], device=generator.device) / 2 - 2
    unit = canonical_grid(size, generator.device) / radius_px
    angle = torch.atan2(unit[..., 1], unit[..., 0])
    reach = torch.ones_like(angle)
    for lobes in range(2, 7):
        reach = reach + roughness * uniform(generator, -1, 1) / math.sqrt(lobes) * torch.cos(
            lobes * angle + uniform(generator, 0, 2 * math.pi)
        )
    inside: Tensor = (reach / reach.max() - unit.norm(dim=-1)) * float(radius_px.min())
    return inside


def foliage_outline(generator: torch.Generator, size: Size, scale_px: float, share: float) -> Tensor:
    """Generate the outline of a random lacework, like leaves or a fence.

    Args:
        generator: Random numbers.
        size: (h, w) in pixels.
        scale_px: Size of leaves and gaps.
        share: Part of the area that is covered, 0..1.

    Returns:
        (h, w) approximate distance in pixels to the outline, negative outside and at the rim.
    """
    height = noise(generator, size, scale_px, 2)
    level = torch.quantile(height.flatten()[:: max(1, height.numel() // 10000)], 1 - share)
    return torch.minimum((height - level) * scale_px / 4, _from_rim(size, generator.device) - 2)


def sticks_outline(generator: torch.Generator, size: Size) -> Tensor:
    """Generate the outline of a few thin bars, like poles, wires, legs and branches.

    Args:
        generator: Random numbers.
        size: (h, w) in pixels.

    Returns:
        (h, w) approximate distance in pixels to the outline, negative outside and at the rim.
    """
    half = xy_half(size, generator.device) - 3
    grid = canonical_grid(size, generator.device)
    inside = torch.full(size, -torch.inf, device=generator.device)
    start = (2 * torch.rand(2, generator=generator, device=generator.device) - 1) * half
    for _ in range(1 + choice(generator, 5)):
        end = (2 * torch.rand(2, generator=generator, device=generator.device) - 1) * half
        along = end - start
        part = (((grid - start) * along).sum(-1) / along.square().sum().clamp(min=1)).clamp(0, 1)
        distance = (grid - start - part[..., None] * along).norm(dim=-1)
        width_px = math.exp(uniform(generator, math.log(0.7), math.log(5)))
        inside = torch.maximum(inside, width_px - distance)
        if uniform(generator, 0, 1) < 0.5:  # the next bar starts at this one's end, else at its start
            start = end
    return torch.where(_from_rim(size, generator.device) < 1, inside.clamp(max=-1), inside)


def _from_rim(size: Size, device: torch.device) -> Tensor:
    """Measure the distance (h, w) to the outermost pixels, which rendering repeats beyond the texture."""
    return (xy_half(size, device) - canonical_grid(size, device).abs()).amin(dim=-1)
