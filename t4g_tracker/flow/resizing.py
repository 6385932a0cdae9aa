"""Frames and flows at other sizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size, resize_frames
from t4g_tracker.datatypes import Empty


def shrunk(frames: Tensor, scale: float) -> Tensor:
    """Frames (T, 3, H, W) uint8 at ``scale`` of their size."""
    if scale == 1:
        return frames
    size = (max(1, round(frames.shape[-2] * scale)), max(1, round(frames.shape[-1] * scale)))
    smaller = [resize_frames(frame[None].float(), size) for frame in frames]
    return torch.cat([frame.round().clamp(0, 255).to(torch.uint8) for frame in smaller])


def enlarged(flows: Tensor, size: Size, empty: Empty = torch.empty) -> Tensor:
    """Flows (P, 2, h, w) enlarged to frames of ``size``, displacements scaled along."""
    small = flows.shape[-2:]
    if tuple(small) == tuple(size):
        return flows
    factor = torch.tensor([size[1] / small[1], size[0] / small[0]])[:, None, None]
    larger = empty(len(flows), 2, *size, dtype=flows.dtype)
    for index, flow in enumerate(flows):
        wide = interpolate(flow[None].float(), size=size, mode="bilinear", align_corners=False)
        larger[index] = wide[0] * factor
    return larger
