"""The look of layers: photographs, patterns or nearly one colour; sharp, blurred or faint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size
from t4g_tracker.errors import ConfigError
from t4g_tracker.synthetic.photographs import photo_texture
from t4g_tracker.synthetic.textures import noise, paint, random_colours, random_texture, uniform


@dataclass(frozen=True, kw_only=True)
class SurfaceConfig:
    """How often each kind of texture is chosen."""

    photographs: float = 0.6  # share of photographs; needs scikit-image
    flat: float = 0.1  # share of sky and walls; the rest are patterns
    blurred: float = 0.2  # share of photographs and patterns that are out of focus
    faint: float = 0.15  # share of photographs and patterns with little contrast
    more: tuple[Path, ...] = ()  # files of photographs beside scikit-image's

    def __post_init__(self) -> None:
        for name in ("photographs", "flat", "blurred", "faint"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"surfaces.{name} must be in 0..1, got {getattr(self, name)}")
        if self.photographs + self.flat > 1:
            raise ConfigError("surfaces.photographs and surfaces.flat must not exceed 1 together")


PATTERNS_ONLY = SurfaceConfig(photographs=0.0)  # needs no photographs


def random_surface(generator: torch.Generator, size: Size, config: SurfaceConfig) -> Tensor:
    """Generate the texture of a layer.

    Args:
        generator: Random numbers; the texture lives on its device.
        size: (h, w) in pixels.
        config: Shares of the kinds.

    Returns:
        (3, h, w) red, green and blue in 0..1.

    Raises:
        TrackerError: If photographs are needed and scikit-image is not installed.
    """
    kind = uniform(generator, 0, 1)
    if kind < config.photographs:
        texture = photo_texture(generator, size, config.more)
    elif kind < config.photographs + config.flat:
        return flat_texture(generator, size)
    else:
        texture = random_texture(generator, size)
        grey = texture.mean(dim=0, keepdim=True)  # few things are as colourful as the patterns' palettes
        texture = grey + (texture - grey) * uniform(generator, 0.1, 1.0)
    if uniform(generator, 0, 1) < config.blurred:
        texture = blurred(texture, math.exp(uniform(generator, math.log(1.5), math.log(12))))
    if uniform(generator, 0, 1) < config.faint:
        mean = texture.mean(dim=(1, 2), keepdim=True)
        texture = mean + (texture - mean) * math.exp(uniform(generator, math.log(0.08), math.log(0.5)))
    return texture


def flat_texture(generator: torch.Generator, size: Size) -> Tensor:
    """Generate sky or wall: (3, h, w) of nearly one colour, with slow shading and little grain."""
    ramp = noise(generator, size, uniform(generator, 0.6, 2.0) * max(size), 2)
    colours = random_colours(generator, 2)
    texture = colours.mean(dim=0)[:, None, None].expand(3, *size) * (1 + uniform(generator, 0.0, 0.12) * ramp)
    if uniform(generator, 0, 1) < 0.3:
        texture = paint(0.5 + 0.2 * ramp, colours)
    trace = uniform(generator, 0.0, 0.015) if uniform(generator, 0, 1) < 0.5 else 0.0
    return (texture + trace * noise(generator, size, uniform(generator, 3, 12), 3)).clamp(0, 1)


def blurred(texture: Tensor, width_px: float) -> Tensor:
    """Remove detail finer than about ``width_px`` from a texture (3, h, w)."""
    size = (texture.shape[-2], texture.shape[-1])
    small = (max(2, round(size[0] / width_px)), max(2, round(size[1] / width_px)))
    coarse = interpolate(texture[None], size=small, mode="bilinear", align_corners=False, antialias=True)
    return interpolate(coarse, size=size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
