"""OpenCV's DIS optical flow: no weights, a fraction of a second a pair.

Source: Kroeger et al., Fast Optical Flow using Dense Inverse Search, arXiv:1603.03590.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from t4g_tracker.coordinates import Size

LEAST_PX = 32  # of the shorter side of frames that are searched; OpenCV refuses a few pixels


def possible_scale(size: Size, finest_scale: int) -> int:
    """The finest scale itself, or a lower one where frames of ``size`` (H, W) are too small for it.

    At it the shorter side must hold a patch of 8 px; OpenCV does not check, and crashes.
    """
    return max(0, min(finest_scale, int(math.log2(max(1, min(size) / 16)))))


def dis_flow(first: Tensor, second: Tensor, finest_scale: int = 0, patch_stride: int = 3) -> Tensor:
    """Compute the flow from one frame to another.

    The settings are OpenCV's medium preset, except for the finest scale: searching down to full
    size takes two to three times as long, and brings points of real clips to within a pixel.

    Args:
        first: (3, H, W) uint8.
        second: (3, H, W) uint8.
        finest_scale: Halvings of the frame at which the search ends; 0 is full size.
        patch_stride: Pixels between the patches of 8x8 that are compared; 3 is the preset's.

    Returns:
        (2, H, W) float32 displacement (dx, dy) in pixels of the frames.
    """
    estimator = _estimator(finest_scale, patch_stride)
    flow = estimator.calc(_grey(first), _grey(second), None)
    return torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1)))


def refine_flow(
    first: Tensor,
    second: Tensor,
    start: Tensor,
    finest_scale: int = 0,
    patch_stride: int = 3,
    coarsest_scale: int = 2,
) -> Tensor:
    """Refine a flow that is right to a few pixels by starting DIS from it.

    The flow of a network that works at an eighth of the frame's size is blurred. DIS compares
    the pixels themselves, and is precise where it starts near the truth.

    Args:
        first: (3, H, W) uint8.
        second: (3, H, W) uint8.
        start: (2, H, W) displacement (dx, dy) in pixels of the frames, finite.
        finest_scale: Halvings of the frame at which the search ends; 0 is full size.
        patch_stride: Pixels between the patches of 8x8 that are compared; 3 is the preset's.
        coarsest_scale: Halvings at which the search begins, at least ``finest_scale``. Where the start
            is wrong by more than a few pixels at that size, it stays wrong.

    Returns:
        (2, H, W) float32 displacement (dx, dy) in pixels of the frames.
    """
    estimator = _estimator(finest_scale, patch_stride)
    estimator.setCoarsestScale(max(finest_scale, coarsest_scale))
    guess = np.ascontiguousarray(start.float().permute(1, 2, 0).numpy())
    flow = estimator.calc(_grey(first), _grey(second), guess)
    return torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1)))


def _estimator(finest_scale: int, patch_stride: int) -> cv2.DISOpticalFlow:
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(finest_scale)
    estimator.setPatchStride(patch_stride)
    return estimator


def _grey(frame: Tensor) -> np.ndarray:
    return cv2.cvtColor(frame.permute(1, 2, 0).contiguous().numpy(), cv2.COLOR_RGB2GRAY)
