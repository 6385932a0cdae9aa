"""A pair of frames whose flow is known everywhere."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from t4g_tracker.synthetic.clips import FlowPair


def texture(height, width, seed=0):
    """(3, height, width) uint8, smooth and without repetition."""
    noise = torch.rand(1, 3, height // 6, width // 6, generator=torch.manual_seed(seed))
    smooth = interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)[0]
    return (smooth.clamp(0, 1) * 255).to(torch.uint8)


def shifted_pair() -> FlowPair:
    """A picture that moves by 5 px to the right and 3 px down."""
    whole = texture(180, 240)
    first, second = whole[:, 10:154, 20:212], whole[:, 7:151, 15:207]
    forward = torch.tensor([5.0, 3.0])[:, None, None].expand(2, 144, 192)
    seen = torch.ones(144, 192, dtype=torch.bool)
    return FlowPair(first, second, forward, -forward, seen, seen)
