"""Random motions: paths, bends and tilts whose speed is spread evenly on a logarithmic scale.

In real video most things move by less than a pixel a frame, or not at all, while some cross
the frame in a few frames. An even spread on a logarithmic scale covers both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from t4g_tracker.synthetic.motion import Similarity
from t4g_tracker.synthetic.textures import uniform

SLOWEST_PX = 0.05  # a frame
FASTEST = 0.14  # a frame, in units of the square root of the frame's area: 60 px at 320x576
TEMPOS = (1.0, 1.5, 2.3, 3.4, 5.0)  # of the waves, tried in turn until a path stays within its limit
STEEPEST_TILT = 0.3  # largest share by which a layer's border is nearer or farther than its middle


def log_uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Sample a number between ``low`` and ``high``; all octaves are equally likely."""
    return math.exp(uniform(generator, math.log(low), math.log(high)))


def pace_px(generator: torch.Generator, unit_px: float, slowest_px: float = SLOWEST_PX) -> float:
    """Sample a speed in pixels a frame; ``unit_px`` is the square root of the frame's area."""
    return log_uniform(generator, slowest_px, FASTEST * unit_px)


def smooth_path(
    generator: torch.Generator, frames: int, channels: int, fastest: float, limit: float
) -> Tensor:
    """Sample smooth curves around zero whose largest step is ``fastest``, as far as ``limit`` allows.

    Args:
        generator: Random numbers.
        frames: T.
        channels: Number of curves.
        fastest: Length of the largest step from one frame to the next, all channels together.
        limit: Largest distance of a curve from zero. A path that would go farther turns around sooner;
            if that is not enough, it is slowed down.

    Returns:
        (T, channels), each of mean zero.
    """
    device = generator.device
    turns = torch.rand(channels, 3, generator=generator, device=device)
    factor = 0.6 + 0.8 * torch.rand(channels, 3, generator=generator, device=device)
    if fastest == 0 or frames < 2:
        return torch.zeros(frames, channels, device=device)
    t = torch.arange(frames, device=device)[:, None, None] / 24
    cycles = torch.tensor([0.25, 0.6, 1.3], device=device)
    weight = torch.tensor([0.6, 0.3, 0.12], device=device)
    for tempo in TEMPOS:
        wave = (weight * torch.sin(2 * math.pi * (tempo * cycles * factor * t + turns))).sum(-1)
        wave = wave - wave.mean(dim=0)
        step = (wave[1:] - wave[:-1]).norm(dim=-1).max().clamp(min=1e-6)
        path: Tensor = wave * (fastest / step)
        farthest = float(path.abs().max())
        if farthest <= limit:
            return path
    return path * (limit / farthest)


def wander(
    generator: torch.Generator, frames: int, pace: float, unit_px: float, limit: float, turn: float
) -> Similarity:
    """Sample a path, with turns and growth that move points ``unit_px`` / 2 from its middle as fast.

    Args:
        generator: Random numbers.
        frames: T.
        pace: Largest speed, pixels a frame; 0 for no motion.
        unit_px: Square root of the frame's area.
        limit: Largest distance of the path from the origin, in ``unit_px``.
        turn: Largest turn, in radians.

    Returns:
        Similarity of T frames around the origin.
    """
    turning = uniform(generator, -1, 1)  # half of all layers do not turn,
    growing = uniform(generator, -1, 1)  # and half do not grow
    per_frame = 2 * pace / unit_px
    shift = smooth_path(generator, frames, 2, pace, limit * unit_px)
    angle = smooth_path(generator, frames, 1, max(0.0, turning) * per_frame, turn)[:, 0]
    growth = smooth_path(generator, frames, 1, max(0.0, growing) * per_frame, 0.25)[:, 0]
    return Similarity(shift, angle, torch.exp(growth))


def random_bend(
    generator: torch.Generator, frames: int, extent_px: float, pace: float, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample the waves (K, 2), pushes (K, 2) and phases (T, K) of a bend.

    Args:
        generator: Random numbers.
        frames: T.
        extent_px: Size of the layer; waves are at least half as long.
        pace: Largest speed at which the bend moves points, pixels a frame.
        share: Probability of a bend; otherwise K is 0.
    """
    device = generator.device
    count = 3 if uniform(generator, 0, 1) < share else 0
    angle = 2 * math.pi * torch.rand(count, 2, generator=generator, device=device)
    length_px = extent_px * (0.5 + torch.rand(count, generator=generator, device=device))
    number = 2 * math.pi / length_px
    weight = torch.softmax(torch.randn(count, generator=generator, device=device), 0)
    push_px = uniform(generator, 0.05, 0.4) * weight / number
    wave = torch.stack([torch.cos(angle[:, 0]), torch.sin(angle[:, 0])], -1) * number[:, None]
    push = torch.stack([torch.cos(angle[:, 1]), torch.sin(angle[:, 1])], -1) * push_px[:, None]
    if count == 0:
        return wave, push, torch.zeros(frames, 0, device=device)
    start = 2 * math.pi * torch.rand(count, generator=generator, device=device)
    fastest = min(pace / float(push_px.max()), 0.6)
    return wave, push, start + smooth_path(generator, frames, count, fastest, 1.5 * math.pi)


def random_tilt(
    generator: torch.Generator, frames: int, half_px: float, pace: float, share: float
) -> Tensor | None:
    """Sample tilts (T, 2) of a layer that extends ``half_px`` from its middle; None: it faces the camera."""
    tilted = uniform(generator, 0, 1) < share
    start = (2 * torch.rand(2, generator=generator, device=generator.device) - 1) * STEEPEST_TILT
    path = smooth_path(generator, frames, 2, min(pace / half_px, 0.1), 0.7 * STEEPEST_TILT)
    if not tilted:
        return None
    tilt = start + path
    return tilt / tilt.norm(dim=-1, keepdim=True).div(STEEPEST_TILT).clamp(min=1) / half_px
