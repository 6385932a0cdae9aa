"""Pixel patches under a fixed random projection: no weights, a lower bound for features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from t4g_tracker.coordinates import centred_offset
from t4g_tracker.datatypes import Empty, FeatureGrid
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.settings import PatchConfig


def extract_patch(
    frames: Tensor,
    config: PatchConfig,
    device: torch.device,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    empty: Empty = torch.empty,
) -> FeatureGrid:
    """Describe each cell by its window of pixels, mean colour removed, randomly projected.

    A Gaussian projection keeps angles between windows on average (Johnson and
    Lindenstrauss, 1984), so cosine similarity approximates normalised cross-correlation.

    Args:
        frames: (T, 3, H, W) uint8 at the working size.
        config: Window, stride and number of projections.
        device: Where to compute.
        seed: Seed of the projection.
        progress: Called with (frames done, frames in all).
        empty: Makes the result.

    Returns:
        (T, channels, H / stride, W / stride) half precision on the CPU.

    Raises:
        ConfigError: If the stride does not divide both sides of the frames.
    """
    height, width = frames.shape[-2:]
    if height % config.stride_px or width % config.stride_px:
        raise ConfigError(
            f"features.patch.stride_px must divide the working size {width}x{height}, "
            f"got {config.stride_px}; set it to 4 or 8"
        )
    generator = torch.Generator().manual_seed(seed)
    side, stride = config.window_px, config.stride_px
    kernel = torch.randn(config.channels, 3, side, side, generator=generator) / side
    kernel = (kernel - kernel.mean((2, 3), keepdim=True)).to(device)
    margin = (side - stride) // 2
    values = empty(len(frames), config.channels, height // stride, width // stride, dtype=torch.float16)
    for index, frame in enumerate(frames):
        pixels = pad(frame[None].to(device).float() / 255, (margin,) * 4, mode="replicate")
        values[index] = conv2d(pixels, kernel, stride=stride)[0].half().cpu()
        if progress is not None:
            progress(index + 1, len(frames))
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    return FeatureGrid(values, stride, centred_offset(stride), size)
