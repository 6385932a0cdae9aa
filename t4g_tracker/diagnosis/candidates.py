"""Candidates for where a point is: peaks of its cost maps, and flow from earlier positions."""

from __future__ import annotations

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, rescale
from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Tracks
from t4g_tracker.diagnosis.figures import SPAN_NAMES, SPANS, Figures, flow_errors
from t4g_tracker.matching.head import CostMapHead
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.motion.fields import carry
from t4g_tracker.motion.following import Motion, leading_to
from t4g_tracker.tracking.scene import Scene, match_frames


def match_peaks(
    features: FeatureGrid,
    queries: QueryPoints,
    size: Size,
    matching: MatchingConfig,
    count: int,
    head: CostMapHead | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the best matches of query points in every frame: those of tracking's first round, not yet refined.

    Args:
        features: The grid of T frames.
        queries: N points, pixels of ``size``.
        size: (H, W) that positions are in.
        matching: How cost maps are read.
        count: How many matches, K.
        head: Of cost maps, fitted with the features; None for a plain softmax.

    Returns:
        (N, T, K, 2) positions, pixels of ``size``, best first; inf where a small grid has no further one.
        And their similarities (N, T, K), -inf there.
    """
    scene = Scene.of(features, queries, size, matching, head)
    cells, similarity = match_frames(scene, scene.queries(), count)
    xy = rescale(scene.in_pixels(cells), features.working_size, size)
    similarity = similarity.cpu()
    return xy.masked_fill(similarity[..., None].isinf(), torch.inf), similarity


def nearest_flow(
    sources: Tensor,
    usable: Tensor,
    truth: Tensor,
    wanted: Tensor,
    query_frame: Tensor,
    motion: Motion,
    size: Size,
) -> Tensor:
    """Find how near any flow leads to the truth, of all flow that following a point considers.

    Args:
        sources: (N, T, 2) positions to carry, pixels of ``size``.
        usable: (N, T) bool, from where to carry.
        truth: (N, T, 2) true positions, pixels of ``size``.
        wanted: (N, T) bool, which truths to look at.
        query_frame: (N,) int64; flow comes from this frame and from those between it and the target.
        motion: The flow.
        size: (H, W).

    Returns:
        (N, T) distance of the nearest, pixels of ``size``; inf where none leads there, or none is wanted.
    """
    nearest = torch.full(wanted.shape, torch.inf)
    for home in query_frame[wanted.any(1)].unique().tolist():
        rows = ((query_frame == home) & wanted.any(1)).nonzero().squeeze(1)
        fields = motion.fields(home)
        for target in wanted[rows].any(0).nonzero().squeeze(1).tolist():
            for flow, source in leading_to(target, home, fields):
                which = rows[wanted[rows, target] & usable[rows, source]]
                if not len(which):
                    continue
                there, _ = carry(flow, source, target, sources[which, source], size)
                distance = (there - truth[which, target]).norm(dim=-1)
                nearest[which, target] = torch.minimum(nearest[which, target], distance)
    return nearest


def errors_over_gaps(truth: Tracks, motion: Motion, size: Size) -> dict[str, Figures]:
    """Measure the flow over each gap, from every true visible position to the next that gap apart.

    Args:
        truth: True tracks, pixels of ``size``; flow is measured both ways.
        motion: The flow.
        size: (H, W) that errors and cycle errors are measured in.

    Returns:
        ``flow_errors`` by the name of the gap, shortest gap first.
    """
    measured: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for first, second in motion.flow.pairs.tolist():
        which = truth.visibility[:, first] & truth.visibility[:, second]
        for begin, end in ((first, second), (second, first)):
            there, cycle_error = carry(motion.flow, begin, end, truth.xy[which, begin], size)
            error = (there - truth.xy[which, end]).norm(dim=-1)
            measured.setdefault(second - first, []).append((error, cycle_error))
    return {f"gap {gap}": _joined(measured[gap]) for gap in sorted(measured)}


def errors_from_query(queries: QueryPoints, truth: Tracks, motion: Motion, size: Size) -> dict[str, Figures]:
    """Measure the flow straight from query frames to frames that show the point.

    Pairs of frames that are a gap apart have their flow among the gaps, and are not measured again.

    Args:
        queries: N points, pixels of ``size``.
        truth: The true track of each, pixels of ``size``.
        motion: The flow.
        size: (H, W) that errors and cycle errors are measured in.

    Returns:
        ``flow_errors`` by the name of the span of frames; empty if flow is not followed from queries.
    """
    if motion.from_query is None:
        return {}
    measured: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in SPAN_NAMES}
    for home in queries.frame.unique().tolist():
        _, straight = motion.fields(home)
        rows = (queries.frame == home).nonzero().squeeze(1)
        for target in range(truth.xy.shape[1]):
            which = rows[truth.visibility[rows, target]]
            if not len(which) or not straight.has(home, target):
                continue
            there, cycle_error = carry(straight, home, target, queries.xy[which], size)
            error = (there - truth.xy[which, target]).norm(dim=-1)
            measured[_span_of(abs(target - home))].append((error, cycle_error))
    return {f"from query, {name}": _joined(pairs) for name, pairs in measured.items() if pairs}


def _span_of(frames: int) -> str:
    return next(
        name for name, (first, last) in zip(SPAN_NAMES, SPANS, strict=True) if first <= frames <= last
    )


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> Figures:
    errors, cycle_errors = zip(*pairs, strict=True)
    return flow_errors(torch.cat(errors), torch.cat(cycle_errors))
