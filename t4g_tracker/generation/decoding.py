"""From latents to pictures: by a model's own decoder, or by linear regression for one hardly trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from t4g_tracker.features.networks import scaled_latents
from t4g_tracker.generation.regression import neighbourhoods, ridge_regression, rows

Decode = Callable[[Tensor], Tensor]  # takes scaled latents (N, c, h, w), returns pictures (N, 3, H, W) uint8


class LinearReading:
    """A decoder by linear regression: a cell's pixels from its latents and those of its eight neighbours.

    It shows what the latents hold, without training a decoder. Overall brightness and colour are those of
    the frames that it is fitted to.

    Args:
        latents: (N, c, h, w).
        frames: (N, 3, H, W) uint8, the encoded frames; H and W are the same multiple of h and w.
    """

    def __init__(self, latents: Tensor, frames: Tensor) -> None:
        self.block = frames.shape[-1] // latents.shape[-1]
        pixels = rows(pixel_unshuffle(frames.float(), self.block).flatten(2))
        patches = neighbourhoods(latents)
        self.weights = ridge_regression(patches.mT @ patches, patches.mT @ pixels, 1e-3 * len(patches))

    def __call__(self, latents: Tensor) -> Tensor:
        count, _, height, width = latents.shape
        pixels = (neighbourhoods(latents) @ self.weights).view(count, height * width, -1).mT
        pictures = pixel_shuffle(pixels.reshape(count, -1, height, width), self.block)
        return pictures.round().clamp(0, 255).to(torch.uint8)


def linear_decoder(vae: Any, frames: Tensor) -> LinearReading:
    """Fit a ``LinearReading`` of an autoencoder's latents to frames (N, 3, H, W) uint8."""
    return LinearReading(scaled_latents(vae, frames).float().cpu(), frames)


def own_decoder(vae: Any, chunk: int = 0) -> Decode:
    """Make a function of an autoencoder's own decoder.

    Args:
        vae: An ``AutoencoderKLTemporalDecoder``.
        chunk: Frames decoded at once, which limits memory; 0 for all. Frames of different chunks do not
            see each other.
    """

    def decode(latents: Tensor) -> Tensor:
        parts = []
        for part in (latents / vae.config.scaling_factor).split(chunk or len(latents)):
            pictures = vae.decode(part.to(vae.device, vae.dtype), num_frames=len(part)).sample
            parts.append(((pictures + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8))
        return torch.cat(parts)

    return decode
