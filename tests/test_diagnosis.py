"""The diagnosis: figures known by hand, candidates that are right or not, a picture that shows them."""

import math

import numpy as np
import pytest
import torch

from adaptation.adapter import build_head
from t4g_tracker.coordinates import rescale
from t4g_tracker.datatypes import FlowFields, QueryPoints, Tracks
from t4g_tracker.diagnosis.candidates import (
    errors_from_query,
    errors_over_gaps,
    match_peaks,
    nearest_flow,
)
from t4g_tracker.diagnosis.clip import Diagnosis, diagnose
from t4g_tracker.diagnosis.figures import (
    accuracy,
    by_time,
    flow_errors,
    median,
    of_lost,
    share,
    since_query,
    visibility_errors,
)
from t4g_tracker.diagnosis.pictures import COLUMNS, Tracked, shown_columns, worst_picture
from t4g_tracker.diagnosis.tables import diagnosis_tables, mean_diagnosis
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.metrics import EVALUATION_SIZE, score
from t4g_tracker.motion.following import Motion
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

SIZE = (40, 60)


def bits(*rows):
    """Rows of 0 and 1 as (N, T) bool."""
    return torch.tensor([[int(bit) for bit in row] for row in rows]).bool()


def moves(*pairs):
    """Flow that moves everything: pairs of (first, second, dx forward, dx backward)."""
    forward, backward = (
        torch.stack([torch.stack([torch.full(SIZE, float(dx)), torch.zeros(SIZE)]) for dx in column])
        for column in list(zip(*pairs, strict=True))[2:]
    )
    frames = torch.tensor([pair[:2] for pair in pairs])
    return FlowFields(frames, forward.half(), backward.half())


def along_x(*rows):
    """(N, T, 2) positions with these x, at y = 20."""
    x = torch.tensor(rows, dtype=torch.float32)
    return torch.stack([x, torch.full_like(x, 20)], -1)


def test_a_point_16_px_off_is_lost_and_one_that_is_hidden_does_not_count():
    distance = torch.tensor([[0.5, 3.0, 20.0, 16.0, 99.0]])
    assert accuracy(distance, bits("11110")) == {
        "points": 4,
        "<1px": 25,
        "<2px": 25,
        "<4px": 50,
        "<8px": 50,
        "<16px": 50,
        "lost": 50,
    }


def test_without_a_visible_point_there_is_no_share():
    assert math.isnan(accuracy(torch.ones(1, 2), bits("00"))["lost"])
    assert math.isnan(share(torch.tensor([], dtype=torch.bool)))
    assert math.isnan(median(torch.tensor([])))


def test_any_candidate_counts_a_point_once():
    nearest = {
        "match": torch.tensor([[3.9, 3.9, 4.0, torch.inf, 0.0]]),
        "flow": torch.tensor([[1.0, 9.0, 1.0, 5.0, 0.0]]),
    }
    assert of_lost(nearest, bits("11110")) == {"any": 75, "match": 50, "flow": 50}


def test_a_miss_is_seen_but_told_hidden_and_a_false_alarm_the_other_way():
    told, seen, counted = bits("1100010"), bits("1011000"), bits("0111111")
    assert visibility_errors(told, seen, counted) == {
        "misses": pytest.approx(200 / 6),
        "false alarms": pytest.approx(200 / 6),
    }


def test_time_since_the_query_runs_both_ways():
    assert since_query(torch.tensor([0, 2]), 4).tolist() == [[0, 1, 2, 3], [2, 1, 0, 1]]


def test_errors_are_sorted_into_spans_of_time_and_time_0_into_none():
    distance = torch.tensor([[100.0, 1.0, 2.0, 3.0, 7.0, 50.0]])
    since = torch.tensor([[0, 1, 2, 3, 4, 40]])
    figures = by_time(distance, since, bits("111111"), "x")
    assert figures["x 1, median"] == figures["x 1, mean"] == 1
    assert figures["x 2-4, median"] == 3
    assert figures["x 2-4, mean"] == 4
    assert figures["x 33+, mean"] == 50
    assert math.isnan(figures["x 5-8, median"])
    assert by_time(distance, since, bits("110111"), "x")["x 2-4, median"] == 5  # the mean of 3 and 7


def test_flow_that_is_wrong_and_comes_back_is_falsely_certain():
    error, cycle_error = torch.tensor([0.5, 5.0, 5.0, 3.0]), torch.tensor([0.0, 1.0, 2.0, 1.0])
    assert flow_errors(error, cycle_error) == {
        "pairs": 4,
        "median": 4,
        "<1px": 25,
        "falsely certain": 25,
    }


def test_flow_leads_from_sources_between_the_query_and_the_frame_and_from_no_others():
    truth = along_x([10, 12, 14, 16])
    # 1 px short over a step, right over two, and right from the last frame, which lies beyond
    motion = Motion(moves((0, 1, 1, -1), (1, 2, 1, -1), (0, 2, 4, -4), (2, 3, 2, -2)), 0.0)
    wanted, query = bits("0110"), torch.tensor([0])

    def nearest(sources, usable):
        return nearest_flow(sources, usable, truth, wanted, query, motion, SIZE)[0].tolist()

    assert nearest(truth, bits("1111")) == pytest.approx([torch.inf, 1, 0, torch.inf])
    assert nearest(truth, bits("0100")) == pytest.approx([torch.inf, torch.inf, 1, torch.inf])
    assert nearest(truth + torch.tensor([3.0, 0.0]), bits("0111")) == pytest.approx(
        [torch.inf, torch.inf, 2, torch.inf]
    )


def test_flow_straight_from_the_query_frame_is_a_candidate_too():
    truth, query = along_x([10, 10, 25]), torch.tensor([0])
    gaps, straight = moves((0, 1, 0, 0), (1, 2, 0, 0)), moves((0, 2, 15, -15))
    everywhere, wanted = bits("111"), bits("001")
    motions = Motion(gaps, 0.0), Motion(gaps, 0.0, lambda frame: straight)
    found = [nearest_flow(truth, everywhere, truth, wanted, query, motion, SIZE) for motion in motions]
    assert found[0][0, 2] == pytest.approx(15)
    assert found[1][0, 2] == pytest.approx(0)


def test_the_error_over_a_gap_is_measured_both_ways_between_frames_that_show_the_point():
    truth = Tracks.known(along_x([10, 11, 12], [30, 31, 32]), bits("111", "110"))
    flow = moves((0, 1, 1, -3), (1, 2, 1, -1), (0, 2, 10, -10))
    figures = errors_over_gaps(truth, Motion(flow, 0.0), SIZE)
    assert list(figures) == ["gap 1", "gap 2"]
    assert figures["gap 1"]["pairs"] == 6
    assert figures["gap 1"]["<1px"] == pytest.approx(400 / 6)  # two of six lead 2 px too far
    assert figures["gap 2"] == {"pairs": 2, "median": 8, "<1px": 0, "falsely certain": 100}


def test_flow_from_the_query_is_sorted_by_the_frames_between():
    truth = Tracks.known(along_x([10, 11, 12, 13]), bits("1101"))
    queries = QueryPoints(torch.tensor([0]), truth.xy[:, 0], ("a",))
    straight = moves((0, 2, 2, -2), (0, 3, 5, -5))
    gaps = moves((0, 1, 1, -1))
    figures = errors_from_query(queries, truth, Motion(gaps, 0.0, lambda frame: straight), SIZE)
    assert figures == {"from query, 2-4": {"pairs": 1, "median": 2, "<1px": 0, "falsely certain": 0}}
    assert errors_from_query(queries, truth, Motion(gaps, 0.0), SIZE) == {}


@pytest.fixture(scope="module")
def sliding(slide, ask):
    """A sliding clip, points on it and their true tracks."""
    clip = slide(8)
    queries = ask((0, 30, 40), (2, 60.25, 50.5), (7, 80, 20))
    return clip, queries, Tracks.known(*clip.follow(queries))


def test_the_best_match_of_perfect_features_is_right_to_half_a_cell(sliding):
    clip, queries, truth = sliding
    peaks = match_peaks(clip.features(), queries, clip.size, MatchingConfig(), 2)[0]
    assert peaks.shape == (3, 8, 2, 2)
    assert (peaks[:, :, 0] - truth.xy).norm(dim=-1).max() < 2
    first, second = (peaks - truth.xy[:, :, None]).norm(dim=-1).mean((0, 1)).tolist()
    assert first < 1 < 3 < second


def test_matches_are_in_pixels_of_the_video_though_features_are_smaller(sliding):
    clip, queries, _ = sliding
    large = tuple(2 * side for side in clip.size)
    enlarged = QueryPoints(queries.frame, rescale(queries.xy, clip.size, large), queries.names)
    small = match_peaks(clip.features(), queries, clip.size, MatchingConfig(), 1)[0]
    found = match_peaks(clip.features(), enlarged, large, MatchingConfig(), 1)[0]
    torch.testing.assert_close(found, rescale(small, clip.size, large), atol=1e-3, rtol=0)


def test_a_grid_without_a_second_peak_has_no_second_match(sliding):
    clip, queries, _ = sliding
    wide = MatchingConfig(window_radius_px=128.0)
    assert match_peaks(clip.features(), queries, clip.size, wide, 2)[0][:, :, 1].isinf().all()


def test_matches_are_those_of_tracking_without_flow_and_read_by_the_head_that_was_fitted(sliding):
    clip, queries, _ = sliding
    head = build_head("cnn", seed=0)
    config = TrackingConfig(motion=False, subpixel=False)
    others = torch.arange(8) != queries.frame[:, None]
    found = {}
    for name, given in (("plain", None), ("head", head)):
        found[name] = match_peaks(clip.features(), queries, clip.size, MatchingConfig(), 1, given)[0][:, :, 0]
        args = (clip.video, MatchingConfig(), config, VisibilityConfig())
        tracks = track(queries, clip.features(), *args, head=given)
        torch.testing.assert_close(found[name][others], tracks.xy[others])
    assert (found["head"] - found["plain"]).norm(dim=-1).max() > 0.1


def noisy(truth, spread, seed=0):
    """Tracks off the truth by normal noise, told visible at random."""
    generator = torch.Generator().manual_seed(seed)
    xy = truth.xy + spread * torch.randn(truth.xy.shape, generator=generator)
    return Tracks.known(xy, torch.rand(xy.shape[:2], generator=generator) < 0.7)


@pytest.mark.parametrize("mode", ["strided", "first"])
def test_the_figures_agree_with_the_scores(sliding, mode):
    clip, queries, truth = sliding
    tracks = noisy(truth, 8)
    matches, motion = truth.xy[:, :, None], Motion(clip.flow, 0.0)
    which = torch.arange(3)
    diagnosis = diagnose({"x": tracks}, truth, queries, which, clip.size, mode, matches, motion)
    figures = diagnosis.methods["x"]
    scores = score(tracks, truth, queries, clip.size, mode).measures()
    assert figures["<1px"] == pytest.approx(scores["<1px"])
    within = [figures[f"<{limit}px"] for limit in (1, 2, 4, 8, 16)]
    assert np.mean(within) == pytest.approx(scores["delta_avg"])
    assert 100 - figures["misses"] - figures["false alarms"] == pytest.approx(scores["OA"])
    assert figures["lost"] == pytest.approx(100 - figures["<16px"])


def test_a_lost_point_has_a_right_match_and_flow_from_the_truth_but_none_from_where_it_was(sliding):
    clip, queries, truth = sliding
    astray = Tracks(truth.xy + torch.tensor([20.0, 0.0]), truth.visibility, truth.confidence)
    matches, motion, which = truth.xy[:, :, None], Motion(clip.flow, 0.0), torch.arange(3)
    figures = diagnose({"x": astray}, truth, queries, which, clip.size, "strided", matches, motion).methods[
        "x"
    ]
    assert figures["lost"] == 100
    assert figures["lost, match"] == figures["lost, flow from true"] == figures["lost, any"] == 100
    assert figures["lost, flow from own"] == 0


def test_errors_are_measured_at_256x256(sliding):
    clip, queries, truth = sliding
    motion, which = Motion(clip.flow, 0.0), torch.arange(3)
    off = Tracks(truth.xy + torch.tensor([0.0, 1.0]), truth.visibility, truth.confidence)
    diagnosis = diagnose(
        {"x": off}, truth, queries, which, clip.size, "strided", truth.xy[:, :, None], motion
    )
    assert diagnosis.methods["x"]["since query 1, mean"] == pytest.approx(EVALUATION_SIZE[0] / clip.size[0])


def test_a_mean_leaves_out_clips_without_the_figure():
    known = Diagnosis({"x": {"lost": 10.0, "lost, any": 50.0}}, {"gap 1": {"median": 1.0}})
    other = Diagnosis({"x": {"lost": 0.0, "lost, any": math.nan}}, {"gap 2": {"median": 2.0}})
    mean = mean_diagnosis([known, other])
    assert mean.methods == {"x": {"lost": 5.0, "lost, any": 50.0}}
    assert mean.flow == {"gap 1": {"median": 1.0}, "gap 2": {"median": 2.0}}


def test_a_table_ends_with_means_and_has_a_dash_where_nothing_was_measured():
    first = Diagnosis({"x": {"points": 4.0, "lost": 10.0}}, {"gap 1": {"pairs": 2.0, "median": 1.0}})
    second = Diagnosis({"x": {"points": 6.0, "lost": 30.0}}, {"gap 1": {"pairs": 0.0, "median": math.nan}})
    tables = list(diagnosis_tables({"a": first, "b": second}).values())
    assert [row[:3] for row in tables[0].rows] == [["a", "x", "4"], ["b", "x", "6"], ["mean of 2", "x", "5"]]
    lost = list(tables[0].header).index("lost")
    assert [row[lost] for row in tables[0].rows] == ["10.0", "30.0", "20.0"]
    assert [row[1] for row in tables[-1].rows] == ["1.00 / - / -", "-", "1.00 / - / -"]


def test_columns_go_from_the_query_to_the_worse_end_of_the_video_or_where_the_point_is_last_seen():
    seen = torch.ones(10, dtype=torch.bool)
    worse_behind = torch.tensor([9.0] * 4 + [0.0] * 6)
    assert shown_columns(worse_behind, seen, 4, 3) == [4, 2, 0]
    assert shown_columns(worse_behind, ~seen, 4, 3) == [4, 7, 9]  # unknown: forward
    assert shown_columns(worse_behind, seen, 0, 6) == [0, 2, 4, 5, 7, 9]
    assert shown_columns(worse_behind, seen, 9, 20) == list(range(9, -1, -1))
    assert shown_columns(torch.zeros(1), seen[:1], 0, 6) == [0]
    assert shown_columns(worse_behind, bits("1101101000")[0], 0, 4) == [0, 2, 4, 6]


def test_the_picture_has_a_white_ring_where_the_point_truly_is(sliding):
    clip, queries, truth = sliding
    tracks = noisy(truth, 30, seed=2)
    peaks = match_peaks(clip.features(), queries, clip.size, MatchingConfig(), 2)[0]
    picture = worst_picture(Tracked(clip.video, queries, tracks, truth, clip.features(), peaks), [1])
    lines = [np.flatnonzero((picture[:, :, channel] > 250).any(0)) for channel in range(3)]
    assert picture.dtype == np.uint8
    width = picture.shape[1] / COLUMNS
    # the query frame's tile comes first, and the point is at 60.25 of 128 pixels there
    ring = [x for x in set(lines[0]) & set(lines[1]) & set(lines[2]) if x < width]
    assert ring
    middle = 60.75 / 128 * (width - 8)
    white = (picture[70 : 70 + round((width - 8) / 2), : round(width)] > 250).all(2)
    columns = np.flatnonzero(white.any(0))
    assert abs((columns.min() + columns.max()) / 2 - middle) < 3
