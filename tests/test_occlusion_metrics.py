"""Accuracy under occlusion on tracks made by hand, with values worked out by hand."""

import math

import pytest
import torch

from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.metrics import score
from t4g_tracker.occlusion_metrics import (
    AFTER_FRAMES,
    record_runs,
    redetection_jaccard,
    score_hidden,
    score_reappearances,
    since_reappearance,
)

EVALUATED = (256, 256)  # so that pixels are the pixels that thresholds are in


def bits(*rows):
    """Rows of 0 and 1 as (N, T) bool."""
    return torch.tensor([[int(bit) for bit in row] for row in rows]).bool()


def case(error_px, told, seen, query_frame):
    """Tracks, truth and queries of points at rest at (100, 100), predicted ``error_px`` to the right."""
    true_xy = torch.full((*seen.shape, 2), 100.0)
    predicted = true_xy.clone()
    predicted[..., 0] += torch.tensor(error_px).float()
    names = tuple(f"p{index}" for index in range(len(seen)))
    queries = QueryPoints(torch.tensor(query_frame), true_xy[:, 0], names)
    return Tracks(predicted, told, told.float()), Tracks.known(true_xy, seen), queries


def redetected(error_px, told, seen, query_frame):
    tracks, truth, queries = case(error_px, told, seen, query_frame)
    return score_reappearances(tracks, truth, queries, EVALUATED, "strided")["AJ_RD"]


def test_a_run_is_a_record_when_it_is_longer_than_all_before_it_since_the_query():
    seen = bits("110100110001", "001101001001", "111111111111")
    assert record_runs(seen, torch.tensor([0, 2, 5])).tolist() == [
        [0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 3],
        [0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0],  # queried where first seen; the second run of two is no record
        [0] * 12,
    ]


def test_frames_before_the_query_are_no_hidden_run():
    assert record_runs(bits("0001"), torch.tensor([3])).tolist() == [[0, 0, 0, 0]]


def test_redetection_worked_out_by_hand_for_one_event():
    # Hidden in frame 1, seen again from 2 on. From there: off by 0 (told), 3 (told), 0 (told hidden).
    found = redetected([[0, 0, 0, 3, 0]], bits("11110"), bits("10111"), [0])
    # 1 and 2 px: one hit; three seen and one false claim. From 4 px on: two hits, three seen.
    assert found == pytest.approx(100 * (2 * (1 / 4) + 3 * (2 / 3)) / 5)


def test_redetection_counts_long_runs_as_much_as_short_ones():
    seen = bits("1011111", "1000011")  # runs of 1 and 4
    told = bits("1011111", "1000000")  # the first found at once, the second never
    # Runs of at least 1: both events, the mean of 1 and 0. Of at least 4: the second alone, 0.
    assert redetected([[0] * 7, [0] * 7], told, seen, [0, 0]) == pytest.approx(100 * (0.5 + 0.0) / 2)


def test_a_later_reappearance_counts_in_the_event_before_it_and_a_false_claim_between():
    # Records in frames 2 (run of 1) and 5 (run of 2). Claimed throughout, always right.
    found = redetected([[0] * 6], bits("111111"), bits("101001"), [0])
    # Frames 2 to 5: seen in 2 and 5, false in 3 and 4: 2 / 4. Frame 5: 1 / 1. Both have at least 1 frame.
    assert found == pytest.approx(100 * (2 / 4 + 1) / 2)


def test_redetection_is_that_of_the_published_loop_on_random_tracks():
    generator = torch.Generator().manual_seed(1)
    points, frames = 20, 40
    seen = torch.rand(points, frames, generator=generator) < 0.35
    told = torch.rand(points, frames, generator=generator) < 0.5
    distance = torch.rand(points, frames, generator=generator) * 12
    home = seen.int().argmax(1)
    events = []
    for n in range(points):
        longest = hidden = 0
        for t in range(int(home[n]) + 1, frames):
            if seen[n, t] and hidden > longest:
                longest = hidden
                scores = []
                for threshold in (1, 2, 4, 8, 16):
                    near = distance[n, t:] < threshold
                    hits = (near & seen[n, t:] & told[n, t:]).sum()
                    false = (told[n, t:] & ~(near & seen[n, t:])).sum()
                    scores.append(float(hits / (seen[n, t:].sum() + false)))
                events.append((hidden, sum(scores) / 5))
            hidden = 0 if seen[n, t] else hidden + 1
    means = []
    for least in (1, 4, 16, 64, 256):
        some = [value for run, value in events if run >= least]
        means += [sum(some) / len(some)] if some else []
    assert len(means) > 1
    assert redetection_jaccard(distance, told, seen, home) == pytest.approx(100 * sum(means) / len(means))


def test_only_frames_soon_after_a_reappearance_count_and_told_visibility_does_not():
    seen = bits("110" + "1" * 12)
    error = [[50, 50, 50] + [1.5] * AFTER_FRAMES + [50] * (12 - AFTER_FRAMES)]
    tracks, truth, queries = case(error, torch.zeros_like(seen), seen, [0])
    found = score_reappearances(tracks, truth, queries, EVALUATED, "first")
    assert found["delta_after"] == pytest.approx(80)  # within 2, 4, 8 and 16 px, not within 1
    assert score(tracks, truth, queries, EVALUATED, "first").delta_avg < 60


def test_points_seen_without_a_break_have_no_accuracy_after_a_reappearance():
    tracks, truth, queries = case([[0, 0, 0]], bits("111"), bits("111"), [0])
    found = score_reappearances(tracks, truth, queries, EVALUATED, "strided")
    assert math.isnan(found["delta_after"])
    assert math.isnan(found["AJ_RD"])


def test_frames_before_the_query_count_in_strided_mode_alone():
    seen, error = bits("10111"), [[3, 0, 0, 0, 0]]  # queried in frame 4; frame 0 lies behind a hidden one
    tracks, truth, queries = case(error, seen, seen, [4])
    strided = score_reappearances(tracks, truth, queries, EVALUATED, "strided")
    assert strided["delta_after"] == pytest.approx(60)  # within 4, 8 and 16 px
    assert math.isnan(strided["AJ_RD"])  # which goes forward alone
    assert math.isnan(score_reappearances(tracks, truth, queries, EVALUATED, "first")["delta_after"])


def test_errors_while_hidden_are_of_hidden_points_inside_the_frame():
    seen = bits("10001")
    tracks, truth, queries = case([[50, 3, 5, 9, 50]], seen, seen, [0])
    found = score_hidden(tracks, truth, queries, EVALUATED, "first")
    # Within 1 and 2 px: none of three. Within 4: one, within 8: two, within 16: all.
    assert found["delta_hidden"] == pytest.approx(100 * (0 + 0 + 1 / 3 + 2 / 3 + 1) / 5)
    assert found["hidden_px"] == pytest.approx(5)
    truth.xy[0, 3] = torch.tensor([300.0, 100.0])  # outside
    found = score_hidden(tracks, truth, queries, EVALUATED, "first")
    assert found["hidden_px"] == pytest.approx(4)
    nowhere = score_hidden(tracks, Tracks.known(truth.xy, ~bits("00000")), queries, EVALUATED, "first")
    assert all(map(math.isnan, nowhere.values()))


def test_errors_are_measured_at_256_by_256():
    seen = bits("101")
    tracks, truth, queries = case([[0, 4, 4]], seen, seen, [0])
    assert score_hidden(tracks, truth, queries, (256, 512), "first")["hidden_px"] == pytest.approx(2)
    after = score_reappearances(tracks, truth, queries, (256, 512), "first")["delta_after"]
    assert after == pytest.approx(60)  # 2 px is not below 2 px


def test_time_since_a_reappearance_begins_anew_behind_each_hidden_run_on_either_side_of_the_query():
    visible = bits("1101101001", "0110111011", "1111111111")
    query = torch.tensor([0, 4, 5])
    assert since_reappearance(visible, query).tolist() == [
        [0, 0, 0, 1, 2, 0, 1, 0, 0, 1],
        [0, 2, 1, 0, 0, 0, 0, 0, 1, 2],
        [0] * 10,
    ]
