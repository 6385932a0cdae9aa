"""Query points carried along flow alone: where it takes them, and from when on they do not count as seen."""

import pytest
import torch

from t4g_tracker.datatypes import FlowFields
from t4g_tracker.motion.following import Motion
from t4g_tracker.motion.settings import MotionConfig
from t4g_tracker.tracking.flow_alone import track_by_flow
from t4g_tracker.tracking.visibility import VisibilityConfig

SIZE = (64, 128)


def along(queries, flow, frame_count, size=SIZE, working_size=SIZE, **visibility):
    motion = Motion(flow, MotionConfig())
    return track_by_flow(queries, motion, frame_count, working_size, size, VisibilityConfig(**visibility))


def test_query_points_are_carried_both_forward_and_backward_and_stay_seen(slide, ask):
    clip = slide(10, SIZE, (3.0, -2.0))
    queries = ask((4, 60.25, 30.5), (0, 50, 40), (9, 90, 10))
    tracks = along(queries, clip.flow_over(1, 2, 4), 10)
    torch.testing.assert_close(tracks.xy, clip.follow(queries)[0], atol=0.05, rtol=0)
    assert torch.equal(tracks.xy[torch.arange(3), queries.frame], queries.xy)
    assert tracks.visibility.all()
    assert tracks.confidence.min() > 0.9


def test_a_point_is_hidden_from_where_it_leaves_the_frame_but_still_moves(slide, ask):
    clip = slide(10, SIZE, (10.0, 0.0))
    tracks = along(ask((2, 80, 30)), clip.flow, 10)
    assert tracks.visibility[0].tolist() == [True] * 7 + [False] * 3
    assert tracks.xy[0, 9, 0] == pytest.approx(150, abs=0.1)
    assert (tracks.confidence[0, 7:] == 0).all()


@pytest.mark.parametrize(("error_px", "seen"), [(1.8, 8), (2.0, 5)])
def test_a_point_is_hidden_from_where_its_uncertainty_is_too_large(slide, ask, error_px, seen):
    """Of the cost 3.6 that is allowed, seven flows take 0.14 and the error its square: 3.24 or 4."""
    flow = slide(8, SIZE, (2.0, 0.0)).flow
    flow.backward[4, 0] += error_px  # from frame 5 back to frame 4
    tracks = along(ask((0, 50, 30)), flow, 8, largest_cost=3.6)
    assert tracks.visibility[0].tolist() == [True] * seen + [False] * (8 - seen)
    torch.testing.assert_close(tracks.xy[0, 7], torch.tensor([64.0, 30.0]), atol=0.05, rtol=0)


def test_a_point_behind_a_bar_is_hidden_and_seen_again(slide, ask):
    clip = slide(20, SIZE, (0.5, 0.0), bar_px=28.0, bar_left_px=-30.0, bar_speed_px=7.0)
    queries = ask((0, 50, 30), (19, 60, 20))
    xy, shown = clip.follow(queries)
    tracks = along(queries, clip.flow_over(1, 2, 4, 8), 20)
    assert torch.equal(tracks.visibility, shown)
    assert (tracks.xy - xy)[shown].norm(dim=-1).max() < 0.1


def test_points_are_in_pixels_of_the_video_whatever_size_flow_and_uncertainty_have(ask):
    """Flow of 32x32 goes 1 px right, 1 down, and misses by half a pixel; working pixels are half as large."""
    there = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1).expand(4, 2, 32, 32)
    flow = FlowFields.of_neighbours(there, -there + torch.tensor([0.5, 0.0]).view(1, 2, 1, 1))
    tracks = along(ask((0, 40, 20)), flow, 5, size=(64, 128), working_size=(64, 64), largest_cost=3.5)
    torch.testing.assert_close(tracks.xy[0, 4], torch.tensor([56.0, 28.0]), atol=1e-3, rtol=0)
    assert tracks.visibility[0].tolist() == [True] * 4 + [False]  # a step costs 1 + 0.02
