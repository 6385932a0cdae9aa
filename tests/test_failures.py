"""Classes of failures agree with tracks made by hand; lengths are pixels, since the clip is 256x256."""

import dataclasses

import pytest
import torch

from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.gallery.failures import ALIKE, FAST, REAPPEARED, Evidence, carried_along, find_failures

SIZE = (256, 256)
FRAMES = 20


def tracks_of(xy, seen=None):
    seen = torch.ones(xy.shape[:2], dtype=torch.bool) if seen is None else seen
    return Tracks(xy, seen, seen.float())


def moving(step, home=0):
    """One point that moves ``step`` pixels a frame to the right, as found and in truth."""
    xy = torch.stack([20 + step * torch.arange(FRAMES), torch.full((FRAMES,), 100.0)], -1)[None]
    return xy, QueryPoints(torch.tensor([home]), xy[:, home], ("nose",))


def kinds(evidence):
    return {failure.kind: failure for failure in find_failures(evidence)}


def test_a_good_track_has_no_failure_however_fast_it_is():
    xy, queries = moving(6.0)
    assert kinds(Evidence(tracks_of(xy), queries, SIZE, tracks_of(xy))) == {}


@pytest.mark.parametrize(("step", "found"), [(3.9, {}), (4.1, {FAST})])
def test_a_fast_point_that_is_lost_is_of_the_first_class(step, found):
    truth, queries = moving(step)
    xy = truth.clone()
    xy[0, 9:, 1] += 30
    failures = kinds(Evidence(tracks_of(xy), queries, SIZE, tracks_of(truth)))
    assert failures.keys() == set(found)
    if found:
        failure = failures[FAST]
        assert failure.frame == 9
        assert failure.frames == (0, 7, 8, 9, 10, 11)
        # 11 of the 19 other frames are 30 px off
        assert (
            failure.text
            == "moves 4.1 px a frame on average, and is found 17.4 px off on average, first in frame 9"
        )


def test_without_truth_a_fast_point_is_one_that_is_reported_hidden_until_the_end():
    xy, queries = moving(6.0)
    seen = torch.arange(FRAMES)[None] < 13
    failure = kinds(Evidence(tracks_of(xy, seen), queries, SIZE))[FAST]
    assert failure.frame == 13
    assert "from frame 13 on is reported hidden until the end of the clip" in failure.text
    outside = xy + torch.tensor([180.0, 0.0])  # it has left the frame by then
    assert FAST not in kinds(Evidence(tracks_of(outside, seen), queries, SIZE))


def look_alike(**changed):
    """A slow point that jumps by 50 px to a match in frame 8, where two matches are alike."""
    truth, queries = moving(1.0)
    xy = truth.clone()
    xy[0, 8:, 1] += 50
    carried = torch.cat([xy[:, :1], xy[:, :-1] + torch.tensor([1.0, 0.0])], 1)
    peaks = torch.stack([xy, truth], 2)
    similarity = torch.tensor([0.9, 0.5]).expand(1, FRAMES, 2).clone()
    similarity[0, 8, 1] = 0.86
    evidence = Evidence(tracks_of(xy), queries, SIZE, tracks_of(truth), carried, peaks, similarity)
    return dataclasses.replace(evidence, **changed)


def test_a_jump_to_a_match_that_is_not_alone_is_of_the_second_class():
    failure = kinds(look_alike())[ALIKE]
    assert failure.frame == 8
    assert failure.text == (
        "jumps 50 px away from the flow in frame 8, where two places look alike (similarities 0.90 and 0.86)"
    )
    assert ALIKE in kinds(look_alike(truth=None))


def test_no_jump_is_of_the_second_class_where_something_else_explains_it():
    usual = look_alike()
    alone = usual.similarity - torch.tensor([0.0, 0.02])  # the second peak is 0.06 below
    nowhere = usual.peaks + 60  # the track is at no match
    along = usual.tracks.xy  # it follows the flow
    for changed in (
        {"similarity": alone},
        {"peaks": nowhere},
        {"carried": along},
        {"truth": usual.tracks},  # and is right
        {"similarity": None},
    ):
        assert ALIKE not in kinds(look_alike(**changed)), changed


def test_a_jump_in_a_frame_that_the_tracker_reports_hidden_is_no_failure():
    usual = look_alike(truth=None)
    seen = torch.ones(1, FRAMES, dtype=torch.bool)
    seen[0, 8] = False
    assert ALIKE not in kinds(look_alike(truth=None, tracks=tracks_of(usual.tracks.xy, seen)))


def test_a_point_that_was_lost_before_it_jumps_is_not_counted_for_the_jump():
    usual = look_alike()
    lost = usual.tracks.xy.clone()
    lost[0, 7, 1] += 20
    assert ALIKE not in kinds(look_alike(tracks=tracks_of(lost)))


@pytest.mark.parametrize(("hidden", "off", "found"), [(4, 9.0, {REAPPEARED}), (3, 9.0, {}), (4, 7.0, {})])
def test_a_point_found_wrong_after_being_hidden_for_long_is_of_the_third_class(hidden, off, found):
    truth, queries = moving(1.0)
    seen = torch.ones(1, FRAMES, dtype=torch.bool)
    seen[0, 6 : 6 + hidden] = False
    xy = truth.clone()
    xy[0, 6:, 1] += off
    failures = kinds(Evidence(tracks_of(xy), queries, SIZE, tracks_of(truth, seen)))
    assert failures.keys() == set(found)
    if found:
        failure = failures[REAPPEARED]
        assert failure.frame == 10
        assert failure.frames == (0, 5, 8, 10, 11, 12)
        assert failure.text == "is seen again in frame 10, after 4 hidden ones, and is found 9.0 px off"


def test_time_runs_away_from_the_query_also_backwards():
    truth, queries = moving(1.0, home=15)
    seen = torch.ones(1, FRAMES, dtype=torch.bool)
    seen[0, 5:11] = False
    xy = truth.clone()
    xy[0, :11, 1] += 20
    failure = kinds(Evidence(tracks_of(xy), queries, SIZE, tracks_of(truth, seen)))[REAPPEARED]
    assert failure.frame == 4
    assert failure.frames == (15, 11, 7, 4, 3, 2)


def test_the_longest_time_hidden_counts_and_frames_are_numbered_as_the_user_does():
    truth, queries = moving(1.0)
    seen = torch.ones(1, FRAMES, dtype=torch.bool)
    seen[0, 2:6] = seen[0, 8:14] = False
    (failure,) = find_failures(Evidence(tracks_of(truth, seen), queries, SIZE), start_frame=1001)
    assert (failure.kind, failure.frame) == (REAPPEARED, 14)
    assert failure.text == "is seen again in frame 1015, after 6 hidden ones"


def test_the_worst_of_a_class_comes_first():
    truth, queries = moving(5.0)
    both = QueryPoints(queries.frame.repeat(2), queries.xy.repeat(2, 1), ("a", "b"))
    xy = truth.repeat(2, 1, 1)
    xy[0, 9:, 1] += 30
    xy[1, 9:, 1] += 60
    found = find_failures(Evidence(tracks_of(xy), both, SIZE, tracks_of(truth.repeat(2, 1, 1))))
    assert [failure.point for failure in found] == [1, 0]


def test_flow_carries_each_position_one_frame_on_in_both_directions(slide, ask):
    clip = slide(frame_count=6, velocity=(2.5, -1.25))
    queries = ask((3, 60, 30))
    xy, _ = clip.follow(queries)
    carried = carried_along(clip.flow, tracks_of(xy), queries, clip.size)
    assert carried[0, 3].isnan().all()
    others = [0, 1, 2, 4, 5]
    torch.testing.assert_close(carried[0, others], xy[0, others], atol=0.02, rtol=0)
