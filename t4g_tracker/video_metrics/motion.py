"""How much moves in a video, and how much of that is the camera, from flow between neighbouring frames."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from t4g_tracker.coordinates import inside
from t4g_tracker.datatypes import Video
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.fusion import warped_back
from t4g_tracker.flow.settings import flow_size
from t4g_tracker.inputs.video import working_frames

STATIC_SHARE = 0.0005  # of the diagonal: a third of a pixel at 320x576
CAMERA_SHARE = 0.001  # of the diagonal: flow this near to an affine motion agrees with it
SPACING_PX = 4  # of the pixels that the camera is estimated from
MOTION_FIGURES = ("motion", "camera", "own motion", "static", "warp error", "zoom", "turn")


def motion_figures(
    video: Video, estimator: FlowEstimator, advance: Callable[[int], None]
) -> dict[str, Tensor]:
    """Measure the motion from each frame to the next.

    Lengths are in percent of the frame's diagonal, so that videos of several sizes compare.

    Args:
        video: T frames.
        estimator: Of the flow, which is computed at its own size.
        advance: Called with how many frames are done.

    Returns:
        ``MOTION_FIGURES`` by name, each (T - 1,) float64: the mean length of the flow; that of the camera's
        part of it; that of what is left of the flow without the camera's part; the percentage of pixels that
        move by less than ``STATIC_SHARE``; the ``warp_error``; the size of the change of scale in percent;
        the size of the rotation in degrees.
    """
    frames = working_frames(video, flow_size(video.size, estimator.config))
    count = len(frames) - 1
    figures = torch.empty(count, len(MOTION_FIGURES), dtype=torch.float64)
    for index in range(count):
        flow = estimator.pairs(frames[index : index + 2], [(0, 1)])[0].double()
        figures[index] = torch.tensor(_figures(flow, *frames[index : index + 2]), dtype=torch.float64)
        advance(index + 2)
    return dict(zip(MOTION_FIGURES, figures.T, strict=True))


def camera_motion(flow: Tensor) -> Tensor:
    """Estimate the affine motion that most of the frame follows.

    RANSAC, then least squares over the pixels that agree, so a moving object does not count as long as it
    covers less of the frame than what stands still behind it.

    Args:
        flow: (2, H, W) displacement (dx, dy) in pixels.

    Returns:
        (2, 3) float64 that takes (x, y, 1) of a frame to (x, y) of the next, pixels of the flow. The identity
        if no motion is found.
    """
    start = _grid(flow, SPACING_PX).reshape(-1, 2)
    moved = start + flow[:, ::SPACING_PX, ::SPACING_PX].permute(1, 2, 0).reshape(-1, 2)
    near = CAMERA_SHARE * _diagonal(flow)
    found, _ = cv2.estimateAffine2D(
        np.ascontiguousarray(start.numpy()),
        np.ascontiguousarray(moved.numpy()),
        method=cv2.RANSAC,
        ransacReprojThreshold=near,
        confidence=0.999,
    )
    if found is None:
        return torch.eye(2, 3, dtype=torch.float64)
    agrees = (_moved(torch.from_numpy(found), start) - moved).norm(dim=-1) < near
    known = torch.cat([start, torch.ones_like(start[:, :1])], 1)[agrees]
    refined: Tensor = torch.linalg.lstsq(known, moved[agrees]).solution.T
    return refined


def warp_error(first: Tensor, second: Tensor, flow: Tensor) -> float:
    """Measure how much of the change from one frame to the next is no motion.

    Pixels that leave the frame do not count; those that are covered do.

    Args:
        first: (3, H, W) uint8.
        second: (3, H, W) uint8.
        flow: (2, H, W) displacement (dx, dy) from the first to the second frame, pixels.

    Returns:
        The mean difference of the first frame and the second, warped back along the flow, in percent of the
        range of colours; 0 if every pixel leaves the frame.

    Source: Lai et al., Learning Blind Video Temporal Consistency, arXiv:1808.00449, who take squares.
    """
    moved, size = _grid(flow, 1) + flow.permute(1, 2, 0), (flow.shape[-2], flow.shape[-1])
    stays = inside(moved, size)
    difference = (warped_back(second, flow) - first.float()).abs().mean(dim=0)
    return 100 / 255 * float(difference[stays].sum()) / max(1, int(stays.sum()))


def _figures(flow: Tensor, first: Tensor, second: Tensor) -> list[float]:
    """The ``MOTION_FIGURES`` of one flow (2, H, W) float64 between two frames (3, H, W) uint8."""
    affine, diagonal = camera_motion(flow), _diagonal(flow)
    place = _grid(flow, 1)
    length = flow.norm(dim=0)
    camera = (_moved(affine, place) - place).permute(2, 0, 1)
    scale = float(affine[:, :2].det().clamp_min(0).sqrt())
    turn = torch.atan2(affine[1, 0] - affine[0, 1], affine[0, 0] + affine[1, 1])
    percent = 100 / diagonal
    return [
        percent * float(length.mean()),
        percent * float(camera.norm(dim=0).mean()),
        percent * float((flow - camera).norm(dim=0).mean()),
        100 * float((length < STATIC_SHARE * diagonal).double().mean()),
        warp_error(first, second, flow),
        100 * abs(scale - 1),
        abs(float(turn.rad2deg())),
    ]


def _moved(affine: Tensor, xy: Tensor) -> Tensor:
    """Take positions (..., 2) along an affine motion (2, 3)."""
    return xy @ affine[:, :2].T + affine[:, 2]


def _grid(flow: Tensor, spacing: int) -> Tensor:
    """(h, w, 2) float64 positions (x, y) of every ``spacing``-th pixel of a flow."""
    y, x = (torch.arange(0, side, spacing, dtype=torch.float64) for side in flow.shape[-2:])
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _diagonal(flow: Tensor) -> float:
    return float(np.hypot(*flow.shape[-2:]))
