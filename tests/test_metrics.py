"""TAP-Vid's measures against values worked out by hand and against the definition, written as plain loops."""

import math

import pytest
import torch

from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.metrics import MEASURES, Scores, sample_queries, score

EVALUATED = (256, 256)  # so that pixels are the pixels that thresholds are in


def queried_in(frames):
    """Query points in these frames; where they are does not matter to scores."""
    names = tuple(f"p{index}" for index in range(len(frames)))
    return QueryPoints(torch.as_tensor(frames), torch.zeros(len(frames), 2), names)


def scores_of(error_px, told, seen, query_frame=0, mode="strided", size=EVALUATED):
    """Scores of one point at rest that is predicted ``error_px`` to the right of where it is."""
    true_xy = torch.full((1, len(seen), 2), 100.0)
    predicted = true_xy.clone()
    predicted[0, :, 0] += torch.tensor(error_px)
    told, seen = torch.tensor([told]).bool(), torch.tensor([seen]).bool()
    truth = Tracks.known(true_xy, seen)
    return score(Tracks(predicted, told, told.float()), truth, queried_in([query_frame]), size, mode)


def by_the_definition(xy, told, true_xy, seen, query_frame, size, mode):
    """AJ, delta_avg, OA and the share within 1 px as TAP-Vid words them, one point and frame at a time."""
    points, frames = seen.shape
    right = counted = 0
    jaccard, within = [], []
    for threshold in (1, 2, 4, 8, 16):
        hits = positives = false_positives = near_and_seen = 0
        for n in range(points):
            for t in range(frames):
                if t == query_frame[n] or (mode == "first" and t < query_frame[n]):
                    continue
                dx = (float(xy[n, t, 0]) - float(true_xy[n, t, 0])) * 256 / size[1]
                dy = (float(xy[n, t, 1]) - float(true_xy[n, t, 1])) * 256 / size[0]
                near = math.hypot(dx, dy) < threshold
                positives += bool(seen[n, t])
                near_and_seen += bool(seen[n, t] and near)
                hits += bool(seen[n, t] and near and told[n, t])
                false_positives += bool(told[n, t] and (not seen[n, t] or not near))
                if threshold == 1:
                    counted += 1
                    right += bool(told[n, t] == seen[n, t])
        jaccard.append(100 * hits / (positives + false_positives))
        within.append(100 * near_and_seen / positives)
    return sum(jaccard) / 5, sum(within) / 5, 100 * right / counted, within[0]


@pytest.mark.parametrize("mode", ["strided", "first"])
@pytest.mark.parametrize("size", [(256, 256), (480, 854)])
def test_the_measures_are_those_of_the_definition_on_random_tracks(mode, size):
    generator = torch.Generator().manual_seed(3)
    points, frames = 12, 17
    true_xy = torch.rand(points, frames, 2, generator=generator) * 200
    xy = true_xy + torch.randn(points, frames, 2, generator=generator) * 8
    seen = torch.rand(points, frames, generator=generator) < 0.7
    told = torch.rand(points, frames, generator=generator) < 0.6
    query_frame = torch.randint(0, frames - 1, (points,), generator=generator)
    truth = Tracks.known(true_xy, seen)
    found = score(Tracks(xy, told, told.float()), truth, queried_in(query_frame), size, mode).measures()
    wanted = by_the_definition(xy, told, true_xy, seen, query_frame, size, mode)
    assert list(found) == list(MEASURES) == ["AJ", "delta_avg", "OA", "<1px"]
    assert list(found.values()) == pytest.approx(wanted, abs=1e-6)


def test_a_perfect_track_scores_a_hundred():
    assert scores_of([0, 0, 0], [1, 1, 0], [1, 1, 0]) == Scores(100, 100, 100, 100)


def test_a_small_case_worked_out_by_hand():
    # Counted: frames 1 to 4. Seen in 1, 2 and 3; told seen in 1, 3 and 4; off by 0.5, 0, 3 and 0 px.
    found = scores_of([0, 0.5, 0, 3, 0], [1, 1, 0, 1, 1], [1, 1, 1, 1, 0])
    # Within 1 and 2 px: frames 1 and 2 of 3. Within 4, 8 and 16: all three.
    assert found.delta_avg == pytest.approx(100 * (2 / 3 + 2 / 3 + 1 + 1 + 1) / 5)
    assert found.within_1px == pytest.approx(100 * 2 / 3)
    # At 1 and 2 px: one hit; three seen and false alarms in 3 and 4. From 4 px on: two hits, one false alarm.
    assert found.average_jaccard == pytest.approx(100 * (2 * (1 / 5) + 3 * (2 / 4)) / 5)
    assert found.occlusion_accuracy == pytest.approx(100 * 2 / 4)


@pytest.mark.parametrize(
    ("error_px", "delta_avg"), [(0.999, 100), (1.0, 80), (4.0, 40), (15.999, 20), (16.0, 0)]
)
def test_a_point_exactly_at_a_threshold_is_not_within_it(error_px, delta_avg):
    assert scores_of([0, error_px], [1, 1], [1, 1]).delta_avg == pytest.approx(delta_avg)


def test_thresholds_count_pixels_of_256_by_256_whatever_the_video_s_size():
    assert scores_of([0, 1.9], [1, 1], [1, 1], size=(256, 512)).within_1px == 100
    assert scores_of([0, 1.9], [1, 1], [1, 1], size=(512, 256)).within_1px == 0


def test_the_query_frame_itself_is_never_counted():
    wrong_at_home = scores_of([50, 0, 0], [0, 1, 1], [1, 1, 1], query_frame=0)
    assert wrong_at_home == Scores(100, 100, 100, 100)


def test_first_mode_ignores_the_frames_before_the_query_and_strided_does_not():
    case = {"error_px": [50, 0, 0, 0], "told": [1, 1, 1, 1], "seen": [1, 1, 1, 1], "query_frame": 1}
    assert scores_of(**case, mode="first").delta_avg == 100
    assert scores_of(**case, mode="strided").delta_avg == pytest.approx(200 / 3)


def test_a_hidden_point_told_to_be_seen_costs_jaccard_but_not_position():
    found = scores_of([0, 0, 0], [1, 1, 1], [1, 1, 0])
    assert found.average_jaccard == 50
    assert found.delta_avg == 100
    assert found.occlusion_accuracy == 50


def test_position_counts_where_a_seen_point_was_told_hidden():
    found = scores_of([0, 0, 0], [1, 1, 0], [1, 1, 1])
    assert (found.delta_avg, found.average_jaccard) == (100, 50)


def test_nothing_seen_gives_no_number_rather_than_a_wrong_one():
    found = scores_of([0, 0, 0], [0, 0, 0], [1, 0, 0])
    assert math.isnan(found.delta_avg)
    assert found.occlusion_accuracy == 100


def test_tracks_of_other_points_are_refused():
    two, three = (Tracks.known(torch.zeros(n, 5, 2), torch.ones(n, 5).bool()) for n in (2, 3))
    with pytest.raises(ValueError, match="differ in shape"):
        score(two, three, queried_in([0, 0, 0]), EVALUATED, "first")


def test_measures_are_the_scores_under_their_names():
    scores = Scores(average_jaccard=1.0, delta_avg=2.0, occlusion_accuracy=3.0, within_1px=4.0)
    assert scores.measures() == {"AJ": 1.0, "delta_avg": 2.0, "OA": 3.0, "<1px": 4.0}


SEEN = torch.tensor(
    [
        [0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1],
    ]
).bool()
XY = torch.rand(3, 12, 2, generator=torch.Generator().manual_seed(0)) * 100
TRUTH = Tracks.known(XY, SEEN)


def test_first_mode_asks_for_each_point_where_it_is_first_seen():
    queries, track = sample_queries(TRUTH, "first")
    assert list(zip(track.tolist(), queries.frame.tolist(), strict=True)) == [(0, 2), (2, 0)]
    assert torch.equal(queries.xy, torch.stack([XY[0, 2], XY[2, 0]]))


def test_strided_mode_asks_for_each_point_in_every_fifth_frame_that_shows_it():
    queries, track = sample_queries(TRUTH, "strided")
    asked = set(zip(track.tolist(), queries.frame.tolist(), strict=True))
    assert asked == {(2, 0), (0, 5), (0, 10), (2, 10)}
    assert torch.equal(queries.xy, XY[track, queries.frame])
    assert len(set(queries.names)) == 4
