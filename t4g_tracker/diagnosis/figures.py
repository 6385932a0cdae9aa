"""Figures of tracks whose truth is known: how far off, how long after what, and whether visibility is right.

All distances are in pixels of the 256x256 raster that TAP-Vid measures on; shares are in percent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from t4g_tracker.metrics import THRESHOLDS_PX

Figures = dict[str, float]  # by name; NaN where there is nothing to measure

LOST_PX = THRESHOLDS_PX[-1]  # a visible point this far off, or further, is lost
NEAR_PX = 4.0  # a candidate nearer than this is right
SURE_PX = 1.5  # flow whose cycle error is smaller claims to be right
SPANS = ((1, 1), (2, 4), (5, 8), (9, 16), (17, 32), (33, math.inf))  # frames, first and last


def span_name(span: tuple[float, float]) -> str:
    """Name a span of frames: "1", "2-4", "33+"."""
    first, last = span
    if first == last:
        return f"{first:.0f}"
    return f"{first:.0f}+" if math.isinf(last) else f"{first:.0f}-{last:.0f}"


SPAN_NAMES = tuple(map(span_name, SPANS))


def accuracy(distance: Tensor, visible: Tensor) -> Figures:
    """Measure how many visible points are near, and how many are lost.

    Args:
        distance: (N, T) distance from the truth.
        visible: (N, T) bool, the truly visible points that count.

    Returns:
        "points": how many those are; "<1px" to "<16px": the share of them within each threshold of TAP-Vid;
        "lost": the rest.
    """
    found = distance[visible]
    within = {f"<{limit:.0f}px": share(found < limit) for limit in THRESHOLDS_PX}
    return {"points": float(len(found)), **within, "lost": share(found >= LOST_PX)}


def of_lost(nearest: dict[str, Tensor], lost: Tensor) -> Figures:
    """Measure for how many lost points a right candidate was there.

    Args:
        nearest: By the kind of candidate, (N, T) distance of the nearest one from the truth; inf: none.
        lost: (N, T) bool, the lost points.

    Returns:
        By kind, the share of lost points with a candidate within ``NEAR_PX``; "any": with one of any kind.
    """
    near = {kind: distance[lost] < NEAR_PX for kind, distance in nearest.items()}
    return {"any": share(torch.stack(list(near.values())).any(0))} | {k: share(v) for k, v in near.items()}


def visibility_errors(claimed: Tensor, seen: Tensor, counted: Tensor) -> Figures:
    """Measure wrong visibility, as shares of the frames that count.

    Args:
        claimed: (N, T) bool, told visible.
        seen: (N, T) bool, truly visible.
        counted: (N, T) bool.

    Returns:
        "misses": visible but told hidden; "false alarms": hidden but told visible.
    """
    return {
        "misses": share((seen & ~claimed)[counted]),
        "false alarms": share((claimed & ~seen)[counted]),
    }


def since_query(query_frame: Tensor, frames: int) -> Tensor:
    """Count the frames between each query (N,) and every frame, before or after it: (N, T) int64."""
    return (torch.arange(frames) - query_frame[:, None]).abs()


def by_time(distance: Tensor, since: Tensor, visible: Tensor, name: str) -> Figures:
    """Measure the error by time.

    Args:
        distance: (N, T) distance from the truth.
        since: (N, T) frames since something; 0: nothing has happened yet.
        visible: (N, T) bool, the truly visible points that count.
        name: What has happened, for the names of the figures.

    Returns:
        "<name> <span>, median" and "..., mean" for each of ``SPANS``.
    """
    figures = {}
    for span, title in zip(SPANS, SPAN_NAMES, strict=True):
        errors = distance[visible & (since >= span[0]) & (since <= span[1])]
        figures[f"{name} {title}, median"] = median(errors)
        figures[f"{name} {title}, mean"] = float(errors.mean())
    return figures


def flow_errors(error: Tensor, cycle_error: Tensor) -> Figures:
    """Measure flow from true positions.

    Args:
        error: (P,) distance from the true position that it should lead to.
        cycle_error: (P,) distance by which going there and back misses the start.

    Returns:
        "pairs": P; "median": of the error; "<1px": share of errors below 1 px; "falsely certain": share
        whose cycle error is below ``SURE_PX`` though the error is above ``NEAR_PX``.
    """
    return {
        "pairs": float(len(error)),
        "median": median(error),
        "<1px": share(error < 1),
        "falsely certain": share((cycle_error < SURE_PX) & (error > NEAR_PX)),
    }


def share(which: Tensor) -> float:
    """Percentage of (P,) bool that is true; NaN of none."""
    return 100 * float(which.double().mean())


def median(values: Tensor) -> float:
    """Median of (P,), of an even number the mean of the middle two; NaN of none."""
    return float(values.double().quantile(0.5)) if len(values) else math.nan
