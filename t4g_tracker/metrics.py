"""TAP-Vid's measures of a tracker: AJ, delta_avg and occlusion accuracy, strided and first.

Source: the definitions of TAP-Vid, arXiv:2211.03726, section 3, at 256x256 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from t4g_tracker.choices import QueryMode
from t4g_tracker.coordinates import Size, rescale
from t4g_tracker.datatypes import QueryPoints, Tracks

THRESHOLDS_PX = (1.0, 2.0, 4.0, 8.0, 16.0)
EVALUATION_SIZE: Size = (256, 256)


@dataclass(frozen=True)
class Scores:
    """How well one clip was tracked, in percent, higher is better."""

    average_jaccard: float  # AJ: position and visibility together
    delta_avg: float  # visible points within 1, 2, 4, 8, 16 px, mean of the five
    occlusion_accuracy: float  # OA: frames whose visibility was told right
    within_1px: float  # visible points within 1 px of the evaluation size


def score(
    predicted: Tracks,
    true_xy: Tensor,
    true_visibility: Tensor,
    query_frame: Tensor,
    size: Size,
    mode: QueryMode,
) -> Scores:
    """Compare tracks with the truth as TAP-Vid does.

    The query frame itself is never counted. In ``first`` mode the frames before it are
    not counted either. Distances are taken after scaling both sides to 256x256 and a
    threshold is met when the distance is strictly smaller.

    Args:
        predicted: N tracks over T frames, pixels of ``size``.
        true_xy: (N, T, 2) pixels of ``size``; where a point is hidden the value is not read.
        true_visibility: (N, T) bool.
        query_frame: (N,) frame each point was queried in.
        size: (H, W) of the video in pixels.
        mode: Which frames count: all but the query frame, or those after it.

    Returns:
        Percentages. Without a visible point in any counted frame delta_avg is NaN, and AJ is NaN too
        unless some are told to be visible, which makes it 0. OA is NaN without a counted frame.

    Source: TAP-Vid, arXiv:2211.03726.
    """
    if true_xy.shape != predicted.xy.shape or true_visibility.shape != predicted.visibility.shape:
        raise ValueError(
            f"truth {tuple(true_xy.shape)} and tracks {tuple(predicted.xy.shape)} differ in shape"
        )
    counted = counted_frames(query_frame, true_xy.shape[1], mode)
    distance = evaluation_distance(predicted.xy, true_xy, size)
    told, seen = predicted.visibility, true_visibility
    positives = (seen & counted).sum().item()
    within, jaccard = [], []
    for threshold in THRESHOLDS_PX:
        near = distance < threshold
        within.append(_percent((near & seen & counted).sum().item(), positives))
        hits = (near & seen & told & counted).sum().item()
        false_alarms = (told & ~(near & seen) & counted).sum().item()
        jaccard.append(_percent(hits, positives + false_alarms))
    return Scores(
        average_jaccard=float(np.mean(jaccard)),
        delta_avg=float(np.mean(within)),
        occlusion_accuracy=_percent(((told == seen) & counted).sum().item(), counted.sum().item()),
        within_1px=within[0],
    )


def counted_frames(query_frame: Tensor, frames: int, mode: QueryMode) -> Tensor:
    """(N, T) which frames count: in ``first`` mode those after the query frame, else all but it."""
    times = torch.arange(frames)
    return times > query_frame[:, None] if mode == "first" else times != query_frame[:, None]


def evaluation_distance(found: Tensor, true: Tensor, size: Size) -> Tensor:
    """(...,) distance of positions (..., 2), pixels of ``size`` (H, W), scaled to 256x256."""
    apart = rescale(found.double(), size, EVALUATION_SIZE) - rescale(true.double(), size, EVALUATION_SIZE)
    return apart.norm(dim=-1)


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else float("nan")


def sample_queries(
    true_xy: Tensor, true_visibility: Tensor, mode: QueryMode, stride: int = 5
) -> tuple[QueryPoints, Tensor]:
    """Choose query points from annotated tracks as TAP-Vid does.

    ``strided``: every ``stride``-th frame, each point that is visible there is a query,
    so a point is asked for several times. ``first``: each point once, where it is first
    visible; points that are never visible are left out.

    Args:
        true_xy: (N, T, 2) pixels.
        true_visibility: (N, T) bool.
        mode: Which protocol.
        stride: Frames between query frames in ``strided`` mode.

    Returns:
        The queries, and for each the index (M,) of the annotated track it belongs to.

    Source: TAP-Vid, arXiv:2211.03726.
    """
    if mode == "strided":
        asked = torch.zeros_like(true_visibility)
        asked[:, ::stride] = true_visibility[:, ::stride]
        frame, track = asked.T.nonzero().unbind(1)
    else:
        track = true_visibility.any(1).nonzero().squeeze(1)
        frame = true_visibility[track].int().argmax(1)
    names = tuple(f"track-{int(t)}@{int(f)}" for t, f in zip(track, frame, strict=True))
    return QueryPoints(frame, true_xy[track, frame].float(), names), track
