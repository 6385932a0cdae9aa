"""TAP-Vid's measures of a tracker: AJ, delta_avg and occlusion accuracy, strided and first.

Source: the definitions of TAP-Vid, arXiv:2211.03726, section 3, at 256x256 pixels.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from t4g_tracker.choices import QueryMode
from t4g_tracker.coordinates import Size, rescale
from t4g_tracker.datatypes import QueryPoints, Tracks

THRESHOLDS_PX = (1.0, 2.0, 4.0, 8.0, 16.0)
EVALUATION_SIZE: Size = (256, 256)


MEASURES = ("AJ", "delta_avg", "OA", "<1px")  # names of the fields of ``Scores`` in tables and files


@dataclass(frozen=True)
class Scores:
    """How well one clip was tracked, in percent, higher is better."""

    average_jaccard: float  # AJ: position and visibility together
    delta_avg: float  # visible points within 1, 2, 4, 8, 16 px, mean of the five
    occlusion_accuracy: float  # OA: frames whose visibility is right
    within_1px: float  # visible points within 1 px of the evaluation size

    def measures(self) -> dict[str, float]:
        """The four by name, in the order of ``MEASURES``."""
        return dict(zip(MEASURES, astuple(self), strict=True))


def score(predicted: Tracks, truth: Tracks, queries: QueryPoints, size: Size, mode: QueryMode) -> Scores:
    """Compare tracks with the truth as TAP-Vid does.

    The query frame itself is never counted. In ``first`` mode the frames before it are
    not counted either. Distances are measured after scaling both sides to 256x256; a
    threshold is met if the distance is strictly smaller.

    Args:
        predicted: N tracks over T frames, pixels of ``size``.
        truth: True tracks of the same points, pixels of ``size``; positions matter only where visible.
        queries: The N query points; only their frames are read.
        size: (H, W) of the video in pixels.
        mode: Which frames count: all but the query frame, or those after it.

    Returns:
        Percentages. If no counted frame has a visible point, delta_avg is NaN; AJ is NaN too, or 0 if
        the tracker claims one. OA is NaN without a counted frame.

    Raises:
        ValueError: If tracks and truth differ in shape.

    Source: TAP-Vid, arXiv:2211.03726.
    """
    if truth.xy.shape != predicted.xy.shape:
        raise ValueError(
            f"truth {tuple(truth.xy.shape)} and tracks {tuple(predicted.xy.shape)} differ in shape"
        )
    counted = counted_frames(queries, truth.xy.shape[1], mode)
    distance = evaluation_distance(predicted.xy, truth.xy, size)
    claimed, seen = predicted.visibility, truth.visibility
    positives = (seen & counted).sum().item()
    within, jaccard = [], []
    for threshold in THRESHOLDS_PX:
        near = distance < threshold
        within.append(_percent((near & seen & counted).sum().item(), positives))
        hits = (near & seen & claimed & counted).sum().item()
        false_alarms = (claimed & ~(near & seen) & counted).sum().item()
        jaccard.append(_percent(hits, positives + false_alarms))
    return Scores(
        average_jaccard=float(np.mean(jaccard)),
        delta_avg=float(np.mean(within)),
        occlusion_accuracy=_percent(((claimed == seen) & counted).sum().item(), counted.sum().item()),
        within_1px=within[0],
    )


def counted_frames(queries: QueryPoints, frames: int, mode: QueryMode) -> Tensor:
    """Mark the frames (N, T) that count: in ``first`` mode those after the query frame, else all but it."""
    times, queried = torch.arange(frames), queries.frame[:, None]
    return times > queried if mode == "first" else times != queried


def evaluation_distance(predicted: Tensor, true: Tensor, size: Size) -> Tensor:
    """Measure distances (...,) of positions (..., 2), pixels of ``size`` (H, W), scaled to 256x256."""
    error = rescale(predicted.double(), size, EVALUATION_SIZE) - rescale(true.double(), size, EVALUATION_SIZE)
    return error.norm(dim=-1)


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else float("nan")


def sample_queries(truth: Tracks, mode: QueryMode, stride: int = 5) -> tuple[QueryPoints, Tensor]:
    """Choose query points from annotated tracks as TAP-Vid does.

    ``strided``: in every ``stride``-th frame each visible point is a query, so a point can be
    queried several times. ``first``: each point is queried once, where it is first visible;
    points that are never visible are left out.

    Args:
        truth: N annotated tracks over T frames.
        mode: Which protocol.
        stride: Frames between query frames in ``strided`` mode.

    Returns:
        The queries, and for each the index (M,) of the annotated track it belongs to.

    Source: TAP-Vid, arXiv:2211.03726.
    """
    if mode == "strided":
        queried = torch.zeros_like(truth.visibility)
        queried[:, ::stride] = truth.visibility[:, ::stride]
        frame, track = queried.T.nonzero().unbind(1)
    else:
        track = truth.visibility.any(1).nonzero().squeeze(1)
        frame = truth.visibility[track].int().argmax(1)
    names = tuple(f"track-{int(t)}@{int(f)}" for t, f in zip(track, frame, strict=True))
    return QueryPoints(frame, truth.xy[track, frame].float(), names), track
