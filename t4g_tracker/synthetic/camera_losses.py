"""The losses of a camera and a codec: resolution, contrast, range, detail."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.synthetic.textures import uniform

RESAMPLED, TONED, FADED, COMPRESSED = 0.25, 0.4, 0.15, 0.6  # shares of clips
WORST_QUALITY, BEST_QUALITY = 25, 97  # of JPEG
FULL_COLOUR = 0.3  # share of compressed clips whose colours keep their resolution


def lose_quality(generator: torch.Generator, frames: Tensor) -> Tensor:
    """Resample, tone and compress a clip, all frames in the same way.

    No point moves: resampling keeps the frame's outer edges in place.

    Args:
        generator: Random numbers, on the device of ``frames``.
        frames: (T, 3, H, W) float in 0..1.

    Returns:
        (T, 3, H, W) uint8.
    """
    share = uniform(generator, 0.45, 0.95) if uniform(generator, 0, 1) < RESAMPLED else 1.0
    toned = uniform(generator, 0, 1) < TONED
    faded = uniform(generator, 0, 1) < FADED
    gain = uniform(generator, 0.7, 1.4) if toned else 1.0
    gamma = math.exp(uniform(generator, -0.4, 0.4)) if toned else 1.0
    contrast = uniform(generator, 0.2, 0.7) if faded else 1.0
    black = uniform(generator, 0, 1 - contrast)
    whole = torch.empty(frames.shape, dtype=torch.uint8, device=frames.device)
    for place, frame in zip(whole, frames, strict=True):  # one by one: a frame fits a CPU's cache
        picture = frame if share == 1 else _resample(frame, share)
        if gamma != 1:
            picture = picture.clamp(0, 1).pow_(gamma).mul_(gain).clamp_(0, 1)
        place.copy_((picture * (255 * contrast) + (255 * black + 0.5)).clamp_(0, 255))  # and round down
    if uniform(generator, 0, 1) < COMPRESSED:
        quality = round(uniform(generator, WORST_QUALITY, BEST_QUALITY))
        whole = _compress(whole, quality, uniform(generator, 0, 1) < FULL_COLOUR)
    return whole


def _resample(frame: Tensor, share: float) -> Tensor:
    """Shrink a frame (3, H, W) to ``share`` of its size, and enlarge it again."""
    size = (frame.shape[-2], frame.shape[-1])
    small = (max(8, round(share * size[0])), max(8, round(share * size[1])))
    less = interpolate(frame[None], size=small, mode="bilinear", align_corners=False, antialias=True)
    return interpolate(less, size=size, mode="bilinear", align_corners=False)[0]


def _compress(frames: Tensor, quality: int, full_colour: bool) -> Tensor:
    """Encode frames (T, 3, H, W) uint8 as JPEG, and decode them again."""
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full_colour else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    pictures = frames.movedim(1, -1).cpu().numpy()
    read = np.empty_like(pictures)
    for picture, place in zip(pictures, read, strict=True):
        _, code = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)
        place[...] = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1]
    return torch.from_numpy(read).movedim(-1, 1).contiguous().to(frames.device)
