"""Protocols: which query points a tracker gets on an annotated clip, and how its tracks are measured.

A protocol chooses the query points, and computes the measures of a clip and the error of each track, by
which reports list the worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from t4g_tracker.choices import QueryMode
from t4g_tracker.coordinates import rescale
from t4g_tracker.datasets.annotated import AnnotatedClip
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.metrics import MEASURES, counted_frames, evaluation_distance, sample_queries, score
from t4g_tracker.occlusion_metrics import (
    HIDDEN_MEASURES,
    REAPPEARANCE_MEASURES,
    score_hidden,
    score_reappearances,
)

Measures = dict[str, float]
WORST_OF_A_CLIP = 10  # tracks listed for each clip


class TrackingProtocol(Protocol):
    """How to measure tracks with one kind of annotation."""

    measures: ClassVar[tuple[str, ...]]  # in percent, the main one first

    @property
    def further(self) -> tuple[str, ...]:
        """Names of measures that tables show on demand; files have them always."""
        ...

    def describe(self) -> str:
        """Describe the protocol for tables."""
        ...

    def queries(self, clip: AnnotatedClip) -> tuple[QueryPoints, Tensor]:
        """Choose query points, and return them with the index (M,) of the annotated point of each."""
        ...

    def score(self, clip: AnnotatedClip, queries: QueryPoints, which: Tensor, tracks: Tracks) -> Measures:
        """Compute the clip's measures by name; NaN if no frame counts."""
        ...

    def error_px(self, clip: AnnotatedClip, queries: QueryPoints, which: Tensor, tracks: Tracks) -> Tensor:
        """Compute each track's mean distance (M,) from its annotated point; NaN if no frame counts."""
        ...


@dataclass(frozen=True)
class PointProtocol:
    """TAP-Vid's protocol: AJ, delta_avg, OA and the share within 1 px, at 256x256; strided or first mode.

    Further measures are of accuracy under occlusion.
    """

    mode: QueryMode = "strided"
    knows_hidden: bool = False  # the clips' positions are right where points are hidden, too
    measures: ClassVar[tuple[str, ...]] = MEASURES

    @property
    def further(self) -> tuple[str, ...]:
        return (*REAPPEARANCE_MEASURES, *(HIDDEN_MEASURES if self.knows_hidden else ()))

    def describe(self) -> str:
        return f"TAP-Vid, {self.mode} queries, measured at 256x256"

    def queries(self, clip: AnnotatedClip) -> tuple[QueryPoints, Tensor]:
        return sample_queries(clip.truth, self.mode)

    def score(self, clip: AnnotatedClip, queries: QueryPoints, which: Tensor, tracks: Tracks) -> Measures:
        case = (tracks, clip.truth.subset(which), queries, clip.video.size, self.mode)
        hidden = score_hidden(*case) if self.knows_hidden else {}
        return {**score(*case).measures(), **score_reappearances(*case), **hidden}

    def error_px(self, clip: AnnotatedClip, queries: QueryPoints, which: Tensor, tracks: Tracks) -> Tensor:
        truth = clip.truth.subset(which)
        distance = evaluation_distance(tracks.xy, truth.xy, clip.video.size)
        counted = counted_frames(queries, clip.video.frame_count, self.mode)
        return _mean_where(distance, truth.visibility & counted)


@dataclass(frozen=True)
class JointProtocol:
    """BADJA's protocol: joints within 0.2 of the root of the animal's area, and joints within 3 px.

    Both are measured at the size of the annotations, whatever the size of tracking.

    Each joint is queried in the first frame where it is annotated as visible, and counts in every later
    annotated frame where it is visible. All joints of a clip have the same weight, and so have all clips.
    Source: BADJA (ACCV 2018) as TAP-Vid trackers report it, for example DINO-Tracker, arXiv:2403.14548.
    """

    measures: ClassVar[tuple[str, ...]] = ("segment", "3px")
    further: ClassVar[tuple[str, ...]] = ()
    near_px: ClassVar[float] = 3.0

    def describe(self) -> str:
        return "BADJA, queries where a joint is first visible, measured at the size of the annotations"

    def queries(self, clip: AnnotatedClip) -> tuple[QueryPoints, Tensor]:
        return sample_queries(clip.truth, "first")

    def score(self, clip: AnnotatedClip, queries: QueryPoints, which: Tensor, tracks: Tracks) -> Measures:
        assert clip.reach_px is not None
        distance, counted = self._distances(clip, queries, which, tracks)
        total = counted.sum()
        within = [((distance < limit) & counted).sum() / total for limit in (clip.reach_px, self.near_px)]
        return {name: 100 * float(share) for name, share in zip(self.measures, within, strict=True)}

    def error_px(self, clip: AnnotatedClip, queries: QueryPoints, which: Tensor, tracks: Tracks) -> Tensor:
        return _mean_where(*self._distances(clip, queries, which, tracks))

    def _distances(
        self, clip: AnnotatedClip, queries: QueryPoints, which: Tensor, tracks: Tracks
    ) -> tuple[Tensor, Tensor]:
        """Compute distances (M, T) in pixels of the stored size, and which of them count."""
        truth = clip.truth.subset(which)
        tracked, true = (rescale(xy, clip.video.size, clip.stored_size) for xy in (tracks.xy, truth.xy))
        counted = counted_frames(queries, clip.video.frame_count, "first")
        return (tracked - true).norm(dim=-1), truth.visibility & counted


def _mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Average the values (M, T) that count over the last dimension; NaN if none does."""
    return torch.where(counted, values, 0).sum(-1) / counted.sum(-1)


@dataclass(frozen=True)
class WorstTrack:
    """A track with a large error."""

    track: str
    error_px: float  # mean over the frames that count


def worst_tracks(
    protocol: TrackingProtocol,
    annotated: AnnotatedClip,
    queries: QueryPoints,
    which: Tensor,
    tracks: Tracks,
) -> tuple[WorstTrack, ...]:
    """List the tracks of a clip with the largest mean error, each with its worst query."""
    error = protocol.error_px(annotated, queries, which, tracks)
    worst: dict[int, WorstTrack] = {}
    for index in error.nan_to_num(-1).argsort(descending=True).tolist():
        if error[index] >= 0:
            track = WorstTrack(queries.names[index], round(float(error[index]), 3))
            worst.setdefault(int(which[index]), track)
    return tuple(worst.values())[:WORST_OF_A_CLIP]
