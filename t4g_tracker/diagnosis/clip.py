"""The diagnosis of one clip: all figures of some trackers, and of the flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from t4g_tracker.choices import QueryMode
from t4g_tracker.coordinates import Size, rescale
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.diagnosis.candidates import errors_from_query, errors_over_gaps, nearest_flow
from t4g_tracker.diagnosis.figures import (
    LOST_PX,
    NEAR_PX,
    Figures,
    accuracy,
    by_time,
    of_lost,
    since_query,
    visibility_errors,
)
from t4g_tracker.diagnosis.reliability import ALL, VISIBLE, Reliability
from t4g_tracker.metrics import EVALUATION_SIZE, counted_frames
from t4g_tracker.motion.following import Motion
from t4g_tracker.occlusion_metrics import since_reappearance

SINCE_QUERY, SINCE_REAPPEARANCE = "since query", "since reappearance"
MATCH, OWN_FLOW, TRUE_FLOW = "match", "flow from own", "flow from true"  # kinds of candidates


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong on one clip, in plain numbers that are easily sent and stored."""

    methods: dict[str, Figures] = field(default_factory=dict)  # by name; the last one is the finished tracker
    flow: dict[str, Figures] = field(default_factory=dict)  # by hypothesis: over a gap, from the query
    picture: str = ""  # path from the output folder
    confidence: dict[str, dict[str, Reliability]] = field(default_factory=dict)  # by method, and what counts


def diagnose(
    methods: Mapping[str, Tracks],
    truth: Tracks,
    queries: QueryPoints,
    which: Tensor,
    size: Size,
    mode: QueryMode,
    matches: Tensor,
    motion: Motion,
) -> Diagnosis:
    """Compute all figures of one clip.

    Args:
        methods: N tracks over T frames of each tracker, by its name.
        truth: M annotated tracks.
        queries: N query points.
        which: (N,) annotated track of each query.
        size: (H, W) of the video, whose pixels all positions are in.
        mode: Which frames count, as in ``score``.
        matches: (N, T, K, 2) from ``match_peaks``.
        motion: The flow of the video.
    """

    def scaled(xy: Tensor) -> Tensor:
        return rescale(xy.float(), size, EVALUATION_SIZE)

    on_raster = replace(truth, xy=scaled(truth.xy))
    queries_on_raster = replace(queries, xy=scaled(queries.xy))
    true = on_raster.subset(which)
    counted = counted_frames(queries, true.xy.shape[1], mode)
    matched = (scaled(matches) - true.xy[:, :, None]).norm(dim=-1).amin(2)
    figures = {
        name: _figures(tracks, scaled(tracks.xy), true, queries, counted, matched, motion)
        for name, tracks in methods.items()
    }
    over_gaps = errors_over_gaps(on_raster, motion, EVALUATION_SIZE)
    from_query = errors_from_query(queries_on_raster, true, motion, EVALUATION_SIZE)
    confidence = {
        name: _reliability(tracks, scaled(tracks.xy), true, counted) for name, tracks in methods.items()
    }
    return Diagnosis(figures, over_gaps | from_query, confidence=confidence)


def _reliability(tracks: Tracks, xy: Tensor, true: Tracks, counted: Tensor) -> dict[str, Reliability]:
    """How far one tracker's confidence is a probability; positions ``xy`` and truth are on the raster."""
    found = true.visibility & ((xy - true.xy).norm(dim=-1) < NEAR_PX)
    return {
        ALL: Reliability.of(tracks.confidence, found, counted),
        VISIBLE: Reliability.of(tracks.confidence, found, counted & true.visibility),
    }


def _figures(
    tracks: Tracks,
    xy: Tensor,
    true: Tracks,
    queries: QueryPoints,
    counted: Tensor,
    matched: Tensor,
    motion: Motion,
) -> Figures:
    """Compute the figures of one tracker, whose positions ``xy`` and truth are on the raster."""
    seen, home = true.visibility, queries.frame
    distance, visible = (xy - true.xy).norm(dim=-1), seen & counted
    lost = visible & (distance >= LOST_PX)
    everywhere = torch.ones_like(seen)
    nearest = {
        MATCH: matched,
        OWN_FLOW: nearest_flow(xy, everywhere, true.xy, lost, home, motion, EVALUATION_SIZE),
        TRUE_FLOW: nearest_flow(true.xy, seen, true.xy, lost, home, motion, EVALUATION_SIZE),
    }
    reappeared = since_reappearance(seen, home)
    return {
        **accuracy(distance, visible),
        **{f"lost, {kind}": value for kind, value in of_lost(nearest, lost).items()},
        **visibility_errors(tracks.visibility, seen, counted),
        **by_time(distance, since_query(home, seen.shape[1]), visible, SINCE_QUERY),
        **by_time(distance, reappeared, visible, SINCE_REAPPEARANCE),
    }
