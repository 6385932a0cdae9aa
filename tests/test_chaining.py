"""Query points on chained flow: where it takes them, how long they stay visible, and its cycle error."""

import pytest
import torch
from t4g_tracker.tracking.chaining import chain_query_points, chained_cycle_error

from t4g_tracker.datatypes import FlowSequence

SIZE = (320, 576)  # where thresholds mean what they say


def test_query_points_are_carried_along_both_forward_and_backward(slide, ask):
    clip = slide(10, SIZE, (3.0, -2.0))
    queries = ask((4, 200.25, 150.5), (0, 100, 200), (9, 300, 100))
    tracks = chain_query_points(queries, clip.flow, SIZE)
    torch.testing.assert_close(tracks.xy, clip.follow(queries)[0], atol=0.05, rtol=0)
    assert tracks.visibility.all()
    assert (tracks.confidence == 1).all()


def test_a_carried_point_is_hidden_from_where_it_leaves_the_frame_but_still_moves(slide, ask):
    clip = slide(10, SIZE, (30.0, 0.0))
    tracks = chain_query_points(ask((2, 480, 100)), clip.flow, SIZE)
    assert tracks.visibility[0].tolist() == [True] * 6 + [False] * 4
    assert tracks.xy[0, 9, 0] == pytest.approx(690, abs=0.1)


@pytest.mark.parametrize(
    ("error_px", "size", "visible"), [(1.4, SIZE, 8), (1.6, SIZE, 5), (0.8, (160, 288), 5)]
)
def test_a_carried_point_is_hidden_from_the_first_step_whose_cycle_error_is_too_large(
    slide, ask, error_px, size, visible
):
    """The threshold is 1.5 px at 320x576, so half of that at half the size."""
    flow = slide(8, size, (2.0, 0.0)).flow
    flow.backward[4, 0] += error_px  # from frame 5 back to frame 4
    tracks = chain_query_points(ask((0, 100, 60)), flow, size)
    assert tracks.visibility[0].tolist() == [True] * visible + [False] * (8 - visible)
    torch.testing.assert_close(tracks.xy[0, 7], torch.tensor([114.0, 60.0]), atol=0.05, rtol=0)


def test_carried_points_are_in_pixels_of_the_video_whatever_size_flow_has(slide, ask):
    clip = slide(5, SIZE, (3.0, -2.0))
    tracks = chain_query_points(ask((0, 200, 400)), clip.flow, (640, 1152))
    torch.testing.assert_close(tracks.xy[0, 4], torch.tensor([224.0, 384.0]), atol=0.1, rtol=0)


@pytest.mark.parametrize("query_frame", [0, 4, 9])
def test_the_cycle_error_of_chained_flow_is_how_far_it_has_drifted(query_frame):
    """Forward flow is half a pixel too far each step, backward flow exact; both at twice the working size."""
    forward = torch.tensor([3.5, 0.0]).view(1, 2, 1, 1).expand(9, 2, 64, 128).clone()
    backward = torch.tensor([-3.0, 0.0]).view(1, 2, 1, 1).expand(9, 2, 64, 128).clone()
    flow, query_xy = FlowSequence(forward, backward), torch.tensor([[30.0, 12.0]])
    steps = torch.arange(10.0) - query_frame
    chained_x = 30 + torch.where(steps > 0, 3.5, 3.0) * steps / 2
    xy = torch.stack([chained_x, torch.full((10,), 12.0)], -1)[None]
    error = chained_cycle_error(xy, torch.tensor([query_frame]), query_xy, flow, (32, 64))
    torch.testing.assert_close(error, 0.25 * steps.abs()[None])
