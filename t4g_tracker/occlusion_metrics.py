"""Accuracy under occlusion: just after a point reappears, from there to the end, and while it is hidden.

TAP-Vid's measures average over all frames, of which few follow an occlusion; these look at those alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from t4g_tracker.choices import QueryMode
from t4g_tracker.coordinates import Size, inside
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.metrics import THRESHOLDS_PX, counted_frames, evaluation_distance

AFTER_FRAMES = 8  # the frame of a reappearance and the seven that follow
SHORTEST_RUNS = (1, 4, 16, 64, 256)  # frames hidden, of AJ_RD

REAPPEARANCE_MEASURES = ("delta_after", "AJ_RD")  # percent, higher is better
HIDDEN_MEASURES = ("delta_hidden", "hidden_px")  # percent; pixels at 256x256, lower is better


def score_reappearances(
    predicted: Tracks, truth: Tracks, queries: QueryPoints, size: Size, mode: QueryMode
) -> dict[str, float]:
    """Measure tracks where their points are seen again.

    Args:
        predicted: N tracks over T frames, pixels of ``size``.
        truth: True tracks of the same points; positions matter only where visible.
        queries: The N query points; only their frames are read.
        size: (H, W) of the video in pixels.
        mode: Which frames count, as in ``metrics.score``.

    Returns:
        ``REAPPEARANCE_MEASURES`` in percent: ``delta_after`` is delta_avg over the ``AFTER_FRAMES`` frames
        from each reappearance on, as seen from the query, in both directions in ``strided`` mode;
        ``AJ_RD`` is that of ``redetection_jaccard``. NaN where no point reappears.
    """
    since = since_reappearance(truth.visibility, queries.frame)
    counted = counted_frames(queries, truth.xy.shape[1], mode)
    after = (since >= 1) & (since <= AFTER_FRAMES) & truth.visibility & counted
    distance = evaluation_distance(predicted.xy, truth.xy, size)
    jaccard = redetection_jaccard(distance, predicted.visibility, truth.visibility, queries.frame)
    return dict(zip(REAPPEARANCE_MEASURES, (_delta_avg(distance[after]), jaccard), strict=True))


def score_hidden(
    predicted: Tracks, truth: Tracks, queries: QueryPoints, size: Size, mode: QueryMode
) -> dict[str, float]:
    """Measure where tracks are while their points are hidden, which only synthetic clips know.

    Points that are outside the frame do not count: nothing there could be found.

    Args:
        predicted: N tracks over T frames, pixels of ``size``.
        truth: True tracks of the same points, whose positions are right in every frame.
        queries: The N query points; only their frames are read.
        size: (H, W) of the video in pixels.
        mode: Which frames count, as in ``metrics.score``.

    Returns:
        ``HIDDEN_MEASURES``: delta_avg in percent and the median distance in pixels at 256x256, both over
        hidden points inside the frame. NaN if there is none.
    """
    counted = counted_frames(queries, truth.xy.shape[1], mode)
    hidden = ~truth.visibility & inside(truth.xy, size) & counted
    distance = evaluation_distance(predicted.xy, truth.xy, size)[hidden]
    median = float(distance.quantile(0.5)) if len(distance) else float("nan")
    return dict(zip(HIDDEN_MEASURES, (_delta_avg(distance), median), strict=True))


def redetection_jaccard(distance: Tensor, claimed: Tensor, seen: Tensor, query_frame: Tensor) -> float:
    """Compute AJ_RD: how well points are found again after longer and longer occlusions.

    An event is a reappearance behind a hidden run that is longer than all earlier ones of its track. Its
    Jaccard index, averaged over TAP-Vid's five thresholds, is that of all frames from there to the end.
    The result is the mean over the ``SHORTEST_RUNS`` of the mean over events whose run is at least that
    long; lengths that no run reaches are left out. So long occlusions, though rare, weigh as much.

    Differs from the published program in two points: runs are counted from the frame after the query on, so
    that the first appearance of a point is no reappearance; and a threshold is met, as in TAP-Vid, by
    distances that are strictly smaller.

    Args:
        distance: (N, T) between prediction and truth, pixels at 256x256.
        claimed: (N, T) bool, predicted visibility.
        seen: (N, T) bool, true visibility.
        query_frame: (N,) int64.

    Returns:
        Percent; NaN without an event.

    Source: AJ_RD of TAPNext++, google-deepmind/tapnet, tapnet/tapnextpp/metrics/aj_rd.py.
    """
    run = record_runs(seen, query_frame)
    jaccard = torch.zeros(distance.shape, dtype=torch.float64)
    for threshold in THRESHOLDS_PX:
        hits = (distance < threshold) & seen & claimed
        missed, false_alarms = seen & ~hits, claimed & ~hits
        # a point that is seen, and claimed elsewhere, counts as both, as in AJ
        whole = _from_here(hits) + _from_here(missed) + _from_here(false_alarms)
        jaccard += _from_here(hits) / whole.clamp_min(1) / len(THRESHOLDS_PX)
    means = [float(jaccard[run >= least].mean()) for least in SHORTEST_RUNS if (run >= least).any()]
    return 100 * sum(means) / len(means) if means else float("nan")


def record_runs(seen: Tensor, query_frame: Tensor) -> Tensor:
    """Find reappearances behind a hidden run longer than all before it since the query.

    Args:
        seen: (N, T) bool, true visibility.
        query_frame: (N,) int64.

    Returns:
        (N, T) int64: in the frame of such a reappearance the length of the run, 0 everywhere else.
    """
    records = torch.zeros(seen.shape, dtype=torch.int64)
    run, longest = torch.zeros(2, len(seen), dtype=torch.int64)
    for frame in range(seen.shape[1]):
        records[:, frame] = torch.where(seen[:, frame] & (run > longest), run, 0)
        longest = torch.maximum(longest, records[:, frame])
        run = torch.where(seen[:, frame] | (frame <= query_frame), 0, run + 1)
    return records


def since_reappearance(visible: Tensor, query_frame: Tensor) -> Tensor:
    """Count the frames since a point was last hidden, going from its query in either direction.

    Args:
        visible: (N, T) bool, true visibility.
        query_frame: (N,) int64.

    Returns:
        (N, T) int64: 1 in the frame in which a point reappears, 2 in the next; 0 where it is hidden, and
        where it was not hidden since the query.
    """
    frames = visible.shape[1]
    times = torch.arange(frames)
    after = times > query_frame[:, None]
    before = times < query_frame[:, None]
    last = torch.where(~visible & after, times, -1).cummax(1).values
    first = torch.where(~visible & before, times, frames).flip(1).cummin(1).values.flip(1)
    since = torch.where(after & (last >= 0), times - last, 0)
    return torch.where(before & (first < frames), first - times, since)


def _from_here(which: Tensor) -> Tensor:
    """Count, for each frame of (N, T), in how many frames from it to the end ``which`` holds."""
    return which.long().flip(1).cumsum(1).flip(1)


def _delta_avg(distance: Tensor) -> float:
    """The percentage of distances below each threshold, averaged over the five; NaN if there is none."""
    return float(100 * torch.stack([(distance < t).double().mean() for t in THRESHOLDS_PX]).mean())
