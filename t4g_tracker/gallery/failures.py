"""Failures of a tracker, by class: found by rule in the tracks, not picked by hand.

All lengths are pixels of the 256x256 raster that TAP-Vid measures on. Where the truth is not known, the
tracks themselves say how fast a point is and when it is hidden; we cannot tell whether they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, inside, rescale
from t4g_tracker.datatypes import FlowFields, QueryPoints, Tracks
from t4g_tracker.metrics import EVALUATION_SIZE
from t4g_tracker.motion.fields import carry

FAST, ALIKE, REAPPEARED = KINDS = "fast", "alike", "reappeared"
FAST_PX = 4.0  # a frame: a point that moves further on average is fast
WRONG_PX = 8.0  # a visible point this far off, or further, is wrong
ALIKE_GAP = 0.05  # two places whose similarities differ by less look alike
JUMP_PX = 8.0  # a track this far from where flow carries it has left the flow
LONG_FRAMES = 4  # hidden for so many frames is long
AROUND = 2  # frames shown before and after what went wrong


@dataclass(frozen=True)
class Evidence:
    """What is known of the tracks of a clip; positions are original pixels."""

    tracks: Tracks  # N points in T frames
    queries: QueryPoints  # N
    size: Size
    truth: Tracks | None = None  # N
    carried: Tensor | None = None  # (N, T, 2) from ``carried_along``
    peaks: Tensor | None = None  # (N, T, K, 2) best matches, best first
    similarity: Tensor | None = None  # (N, T, K) of these


@dataclass(frozen=True)
class Failure:
    """One track that went wrong."""

    kind: str  # fast, alike or reappeared
    point: int  # index of the track
    frame: int  # where it shows first, counted from 0
    frames: tuple[int, ...]  # to look at: the query frame, then others away from it
    weight: float  # the larger, the worse, within a kind
    text: str  # one sentence about the point


def carried_along(flow: FlowFields, tracks: Tracks, queries: QueryPoints, size: Size) -> Tensor:
    """Carry every found position one frame further away from the query, along the flow.

    Args:
        flow: Between neighbouring frames, perhaps among others.
        tracks: N points in T frames.
        queries: N.
        size: (H, W) that positions are in.

    Returns:
        (N, T, 2) where flow from the neighbour nearer to the query leads; NaN in query frames, and where
        there is no such flow.
    """
    count = tracks.xy.shape[1]
    found = torch.full_like(tracks.xy, torch.nan)
    for frame in range(count):
        for before in (frame - 1, frame + 1):
            away = queries.frame <= before if before < frame else queries.frame >= before
            rows = away.nonzero().squeeze(1)
            if 0 <= before < count and len(rows) and flow.has(before, frame):
                found[rows, frame] = carry(flow, before, frame, tracks.xy[rows, before], size)[0]
    return found


def find_failures(evidence: Evidence, start_frame: int = 0) -> list[Failure]:
    """Find failures of all classes, at most one a track in each, the worst of a class first.

    Args:
        evidence: Of one clip.
        start_frame: Number of the first frame, for the sentences.
    """
    raster = _Raster.of(evidence, start_frame)
    found = []
    for point in range(len(evidence.queries)):
        for rule in (_fast, _alike, _reappeared):
            failure = rule(raster, point)
            if failure is not None:
                found.append(failure)
    return sorted(found, key=lambda failure: (KINDS.index(failure.kind), -failure.weight))


@dataclass(frozen=True)
class _Raster:
    """The evidence in pixels of 256x256."""

    evidence: Evidence
    xy: Tensor  # (N, T, 2) found
    error: Tensor | None  # (N, T) NaN where the truth is hidden, and in query frames
    seen: Tensor  # (N, T) bool: truly, or as reported
    step: Tensor  # (N, T - 1) lengths of steps; NaN where one of the ends is hidden
    start_frame: int

    @classmethod
    def of(cls, evidence: Evidence, start_frame: int) -> _Raster:
        def scaled(tracks: Tracks) -> Tensor:
            return rescale(tracks.xy.double(), evidence.size, EVALUATION_SIZE)

        truth, xy = evidence.truth, scaled(evidence.tracks)
        reference = evidence.tracks if truth is None else truth
        seen, moved = reference.visibility, scaled(reference)
        step = (moved[:, 1:] - moved[:, :-1]).norm(dim=-1)
        step = step.masked_fill(~(seen[:, 1:] & seen[:, :-1]), torch.nan)
        error = None
        if truth is not None:
            error = (xy - scaled(truth)).norm(dim=-1).masked_fill(~seen, torch.nan)
            error[torch.arange(len(error)), evidence.queries.frame] = torch.nan
        return cls(evidence, xy, error, seen, step, start_frame)

    def home(self, point: int) -> int:
        return int(self.evidence.queries.frame[point])

    def number(self, frame: int) -> int:
        """The number of a frame as the user counts."""
        return self.start_frame + frame

    def ways(self, point: int) -> list[list[int]]:
        """Frames away from the query, later ones and then earlier ones."""
        home = self.home(point)
        return [list(range(home + 1, self.seen.shape[1])), list(range(home - 1, -1, -1))]

    def failure(
        self, kind: str, point: int, frame: int, weight: float, text: str, more: tuple[int, ...] = ()
    ) -> Failure:
        """Make a failure that shows the query frame, and the frames around ``frame`` or ``more``."""
        home, last = self.home(point), self.seen.shape[1] - 1
        wanted = more or tuple(range(frame - AROUND, frame + AROUND + 1))
        wanted = tuple(
            sorted({t for t in wanted if 0 <= t <= last and t != home}, key=lambda t: abs(t - home))
        )
        return Failure(kind, point, frame, (home, *wanted), weight, text)


def _fast(raster: _Raster, point: int) -> Failure | None:
    """A point that moves far in every frame, where flow is long and blurred, and is lost."""
    step = float(raster.step[point].nanmean())
    if not step >= FAST_PX:
        return None
    moves = f"moves {step:.1f} px a frame on average"
    if raster.error is not None:
        error = raster.error[point]
        mean, wrong = float(error.nanmean()), error >= WRONG_PX
        if not mean >= WRONG_PX:
            return None
        frame = next(t for way in raster.ways(point) for t in way if wrong[t])
        text = f"{moves}, and is found {mean:.1f} px off on average, first in frame {raster.number(frame)}"
        return raster.failure(FAST, point, frame, step * mean, text)
    for way in raster.ways(point):
        lost = _lost_for_good(raster, point, way)
        if lost is not None:
            frame = raster.number(lost)
            text = f"{moves}, and from frame {frame} on is reported hidden until the end of the clip"
            return raster.failure(FAST, point, lost, step, text)
    return None


def _lost_for_good(raster: _Raster, point: int, way: list[int]) -> int | None:
    """The frame from which a point inside is reported hidden until the end; None if not for long."""
    hidden = 0
    while hidden < len(way) and not raster.seen[point, way[-1 - hidden]]:
        hidden += 1
    if not hidden >= LONG_FRAMES:
        return None
    first = way[len(way) - hidden]
    return first if bool(inside(raster.evidence.tracks.xy[point, first], raster.evidence.size)) else None


def _alike(raster: _Raster, point: int) -> Failure | None:
    """A point that leaves the flow for a match, where another place matches nearly as well."""
    evidence = raster.evidence
    carried, peaks, similarity = evidence.carried, evidence.peaks, evidence.similarity
    if carried is None or peaks is None or similarity is None or similarity.shape[-1] < 2:
        return None
    along = rescale(carried[point].double(), evidence.size, EVALUATION_SIZE)
    matches = rescale(peaks[point, :, :2].double(), evidence.size, EVALUATION_SIZE)
    xy, gap = raster.xy[point], similarity[point, :, 0] - similarity[point, :, 1]
    at_match = (matches - xy[:, None]).norm(dim=-1).amin(-1) < WRONG_PX
    jump = (xy - along).norm(dim=-1)
    suspect = (gap < ALIKE_GAP) & at_match & (jump >= JUMP_PX) & raster.seen[point]
    wrong = torch.zeros_like(suspect)
    if raster.error is not None:
        wrong = raster.error[point] >= WRONG_PX
        suspect &= wrong
    worst: Failure | None = None
    for way in raster.ways(point):
        for before, frame in zip([raster.home(point), *way], way, strict=False):
            further = (xy[frame] - xy[before]).norm() > (along[frame] - xy[before]).norm()
            if not suspect[frame] or not further or wrong[before]:
                continue
            if worst is None or jump[frame] > worst.weight:
                best, second = similarity[point, frame, :2].tolist()
                text = (
                    f"jumps {jump[frame]:.0f} px away from the flow in frame {raster.number(frame)}, "
                    f"where two places look alike (similarities {best:.2f} and {second:.2f})"
                )
                worst = raster.failure(ALIKE, point, frame, float(jump[frame]), text)
    return worst


def _reappeared(raster: _Raster, point: int) -> Failure | None:
    """A point that was hidden for long, in the first frame that shows it again."""
    worst: Failure | None = None
    for way in raster.ways(point):
        hidden: list[int] = []
        for frame in way:
            if not raster.seen[point, frame]:
                hidden.append(frame)
                continue
            run, hidden = hidden, []
            if len(run) < LONG_FRAMES or (worst is not None and len(run) <= worst.weight):
                continue
            text = f"is seen again in frame {raster.number(frame)}, after {len(run)} hidden ones"
            if raster.error is not None:
                error = float(raster.error[point, frame])
                if error < WRONG_PX:
                    continue
                text += f", and is found {error:.1f} px off"
            ahead = frame - run[-1]
            shown = (run[0] - ahead, run[len(run) // 2], frame, frame + ahead, frame + 2 * ahead)
            worst = raster.failure(REAPPEARED, point, frame, float(len(run)), text, shown)
    return worst
