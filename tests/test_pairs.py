"""Between which frames flow is computed."""

import pytest

from t4g_tracker.motion.fields import pairs_from, pairs_over_gaps


def test_pairs_over_gaps_are_all_of_them_by_their_later_frame():
    assert pairs_over_gaps(4, (1, 2)) == [(0, 1), (1, 2), (0, 2), (2, 3), (1, 3)]


def test_from_a_frame_near_ones_are_all_paired_and_far_ones_ever_fewer():
    later = [j for i, j in pairs_from(0, 100, 48, 8) if i == 0]
    assert later == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48]


@pytest.mark.parametrize(("dense_reach", "count"), [(1, 6), (4, 11), (8, 18), (48, 48), (1000, 48)])
def test_a_smaller_dense_reach_leaves_fewer_pairs(dense_reach, count):
    assert len(pairs_from(0, 100, 48, dense_reach)) == count


def test_where_reach_doubles_pairs_from_a_frame_grow_by_as_many():
    counts = [len(pairs_from(0, 10_000, reach, 8)) for reach in (64, 128, 256, 512)]
    assert counts == [20, 24, 28, 32]


def test_pairs_from_a_frame_in_the_middle_reach_both_ways_and_stay_in_the_video():
    pairs = pairs_from(3, 7, 100, 2)
    assert pairs == [(1, 3), (2, 3), (3, 4), (3, 5)]
    assert pairs_from(0, 1, 48, 8) == []
