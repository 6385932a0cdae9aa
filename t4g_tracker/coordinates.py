"""Every change of grid: original pixels, working pixels, feature cells, raster fractions.

All pixel grids here put whole numbers at pixel centres, so a frame of width W spans
-0.5 .. W - 0.5. Resizing keeps those outer edges in place (``align_corners=False``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from t4g_tracker.errors import ConfigError
from t4g_tracker.limits import Limits, check_limits

Size = tuple[int, int]

PIXELS_480P = 480 * 854  # of a 16:9 frame at 480p


@dataclass(frozen=True, kw_only=True)
class WorkingSizeConfig:
    """The size that features are computed at; flow has its own."""

    pixels: int = 320 * 576  # height times width to aim at, aspect kept
    multiple: int = 64  # both sides are multiples of this; SVD's UNet needs 64
    height: int = 0  # 0: from pixels and aspect; otherwise this, and width must be given too
    width: int = 0  # 0, or the width that goes with height

    LIMITS: ClassVar[Limits] = {
        "pixels": (8 * 8, 4096 * 4096),
        "multiple": (8, 1024),
        "height": (0, 16_384),
        "width": (0, 16_384),
    }

    def __post_init__(self) -> None:
        check_limits(self, "working_size")
        if self.multiple % 8:
            raise ConfigError(f"working_size.multiple must be 8, 16, 24, ..., got {self.multiple}")
        if self.pixels < self.multiple**2:
            raise ConfigError(
                f"working_size.pixels must be at least multiple^2 = {self.multiple**2}, got {self.pixels}"
            )
        if (self.height > 0) != (self.width > 0):
            raise ConfigError("working_size.height and working_size.width go together; set both or neither")
        for name, side in (("height", self.height), ("width", self.width)):
            if side % self.multiple:
                raise ConfigError(
                    f"working_size.{name} must be 0 or a multiple of {self.multiple}, got {side}"
                )
        if self.height * self.width > self.LIMITS["pixels"][1]:
            raise ConfigError(
                f"working_size.height times width must be at most {self.LIMITS['pixels'][1]}, got "
                f"{self.height} x {self.width}"
            )


def working_size(original: Size, config: WorkingSizeConfig) -> Size:
    """Choose the (H, W) to work at: near the configured pixel count, aspect as near as multiples allow.

    Of all sizes whose sides are multiples of ``config.multiple``, it is the one with the
    smallest sum of |log aspect error| and half the |log area error|. A 16:9 frame gives
    320x576, at which Track4Gen was trained.

    Args:
        original: (H, W) of the video in pixels.
        config: Pixel count and multiple, or a fixed size.

    Returns:
        (H, W) in working pixels.
    """
    if config.height:
        return config.height, config.width
    m, aspect = config.multiple, original[1] / original[0]
    # every height, each with the widths on either side of the aspect, or the largest allowed
    h = m * np.arange(1, config.pixels // m**2 + 1).repeat(2)
    w = m * np.floor(h * aspect / m)
    w[1::2] += m
    w = w.clip(m, np.minimum(h[-1], 2 * config.pixels // h // m * m))
    misfit = abs(np.log(w / h / aspect)) + 0.5 * abs(np.log(h * w / config.pixels))
    best = misfit.argmin()
    return int(h[best]), int(w[best])


def length_scale(size: Size, reference_pixels: int) -> float:
    """The factor from lengths in a frame of so many pixels to those in a frame of ``size`` (H, W)."""
    return float((size[0] * size[1] / reference_pixels) ** 0.5)


def rescale(xy: Tensor, source: Size, target: Size) -> Tensor:
    """Carry positions from a frame of one size to the same frame at another size.

    Args:
        xy: (..., 2) pixels of ``source``.
        source: (H, W) the positions are in.
        target: (H, W) the result is in.

    Returns:
        (..., 2) pixels of ``target``. Rescaling back returns the same point.
    """
    factor = xy.new_tensor([target[1] / source[1], target[0] / source[0]])
    return (xy + 0.5) * factor - 0.5


def pixels_to_cells(xy: Tensor, stride_px: float, offset_px: float) -> Tensor:
    """Convert working pixels (..., 2) to feature cells, whole numbers at cell centres."""
    return (xy - offset_px) / stride_px


def cells_to_pixels(cells: Tensor, stride_px: float, offset_px: float) -> Tensor:
    """Convert feature cells (..., 2) to working pixels; the inverse of ``pixels_to_cells``."""
    return cells * stride_px + offset_px


def centred_offset(stride_px: float) -> float:
    """Return the centre of cell 0, in working pixels, if the cells tile the frame from edge to edge."""
    return (stride_px - 1) / 2


def fractions_to_pixels(fractions: Tensor, size: Size) -> Tensor:
    """Convert TAP-Vid's raster fractions (..., 2) of width and height to pixels of ``size`` (H, W).

    TAP-Vid puts the centre of pixel i at (i + 0.5) / width; arXiv:2211.03726.
    """
    return fractions * fractions.new_tensor([size[1], size[0]]) - 0.5


def pixels_to_fractions(xy: Tensor, size: Size) -> Tensor:
    """Convert pixels of ``size`` to raster fractions; the inverse of ``fractions_to_pixels``."""
    return (xy + 0.5) / xy.new_tensor([size[1], size[0]])


def to_sample_grid(xy: Tensor, size: Size) -> Tensor:
    """Convert positions (..., 2) in cells or pixels of a (H, W) grid to ``grid_sample``'s -1..1.

    For ``grid_sample(..., align_corners=False)``.
    """
    extent = xy.new_tensor([size[1], size[0]])
    return (xy + 0.5) * (2 / extent) - 1


def tile_centres(size: Size, spacing_px: int) -> Tensor:
    """(S, 2) positions, one in the middle of each tile, row by row."""
    middle = (spacing_px - 1) / 2
    y = (torch.arange(0, size[0], spacing_px) + middle).clamp_max(size[0] - 1)
    x = (torch.arange(0, size[1], spacing_px) + middle).clamp_max(size[1] - 1)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)


def middle_part(size: Size, aspect: Size) -> tuple[slice, slice]:
    """Find the largest middle part of a frame of ``size`` (H, W) in the aspect of another (H, W).

    Returns:
        Its rows and columns.
    """
    height, width = size
    high = min(height, max(1, round(width * aspect[0] / aspect[1])))
    wide = min(width, max(1, round(height * aspect[1] / aspect[0])))
    top, left = (height - high) // 2, (width - wide) // 2
    return slice(top, top + high), slice(left, left + wide)


def inside(xy: Tensor, size: Size) -> Tensor:
    """Test which positions (..., 2) lie within the outer edges of a frame of ``size`` (H, W)."""
    x, y = xy.unbind(-1)
    return (x >= -0.5) & (x <= size[1] - 0.5) & (y >= -0.5) & (y <= size[0] - 0.5)


def resize_frames(frames: Tensor, size: Size) -> Tensor:
    """Resize (T, 3, H, W) float images to ``size`` with anti-aliasing, outer edges in place."""
    if tuple(frames.shape[-2:]) == size:
        return frames
    return torch.nn.functional.interpolate(
        frames, size=size, mode="bilinear", align_corners=False, antialias=True
    )
