"""Which steps of a track are motion: jumps between look-alikes are not, however fast the camera is."""

import numpy as np
import pytest

from t4g_tracker.visualize.trails import joined_steps

SIZE = (300, 400)  # its diagonal is 500: steps up to 25 px are motion


def joined(*tracks, seen=None, size=SIZE):
    """Which steps are joined of tracks along x."""
    x = np.array(tracks, dtype=float)
    xy = np.stack([x, np.full_like(x, 100.0)], -1)
    visible = np.ones(x.shape, bool) if seen is None else np.array(seen)
    return joined_steps(xy, visible, size).tolist()


def test_a_short_step_is_motion_and_a_long_one_out_of_stillness_is_not():
    assert joined([10, 12, 36, 38, 40]) == [[True] * 4]
    assert joined([10, 12, 300, 302, 304]) == [[True, False, True, True]]


def test_there_and_back_again_is_not_motion():
    assert joined([10, 12, 300, 14, 16]) == [[True, False, False, True]]


def test_fast_motion_is_motion_from_its_first_step_to_its_last():
    assert joined([10, 70, 140, 220, 290]) == [[True] * 4]


def test_a_long_step_that_most_points_make_is_the_cameras():
    still_then_moved = [[x, x, x + 90, x + 90] for x in (10, 60, 110, 160, 210)]
    assert joined(*still_then_moved) == [[True] * 3] * 5
    alone = [[x, x, x, x] for x in (10, 60, 110, 160)]
    assert joined([10, 10, 100, 100], *alone)[0] == [True, False, True]


def test_a_step_with_a_hidden_end_or_no_position_is_none():
    assert joined([10, 12, 14, 16], seen=[[True, True, False, True]]) == [[True, False, False]]
    assert joined([10, np.nan, 14, 16]) == [[False, False, True]]


def test_what_a_jump_is_depends_on_the_size_of_the_frame():
    assert joined([10, 10, 60, 60], size=(600, 800)) == [[True, True, True]]


@pytest.mark.parametrize("shape", [(0, 5), (3, 1)])
def test_no_points_and_a_single_frame_have_no_steps_to_join(shape):
    found = joined_steps(np.zeros((*shape, 2)), np.ones(shape, bool), SIZE)
    assert found.shape == (shape[0], shape[1] - 1)
