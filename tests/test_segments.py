"""Segments: every frame once, in order, borrowed frames in front and dropped."""

from __future__ import annotations

import pytest

from t4g_tracker.features.segments import segment_plan


@pytest.mark.parametrize("frame_count", [1, 2, 5, 13, 14, 15, 27, 28, 29, 80])
@pytest.mark.parametrize("segment_frames", [1, 2, 14, 24])
def test_every_frame_is_kept_once_in_order_and_every_segment_is_full(frame_count, segment_frames):
    plan = segment_plan(frame_count, segment_frames)
    assert [frame for segment in plan for frame in segment.kept_frames] == list(range(frame_count))
    assert {len(segment.frames) for segment in plan} == {segment_frames}


def test_last_segment_borrows_the_frames_before_it_as_in_the_supplement():
    plan = segment_plan(frame_count=24 + 14, segment_frames=24)
    assert len(plan) == 2
    assert plan[1].frames == tuple(range(14, 38))  # 10 borrowed, then its own 14
    assert plan[1].kept_frames == tuple(range(24, 38))


def test_segments_show_the_model_a_contiguous_clip():
    for segment in segment_plan(frame_count=40, segment_frames=14):
        first = segment.frames[0]
        assert segment.frames == tuple(range(first, first + 14))


def test_video_shorter_than_a_segment_is_played_back_and_forth():
    (segment,) = segment_plan(frame_count=3, segment_frames=8)
    assert segment.frames == (0, 1, 2, 1, 0, 1, 2, 1)
    assert segment.kept_frames == (0, 1, 2)


def test_single_frame_fills_the_segment():
    (segment,) = segment_plan(frame_count=1, segment_frames=4)
    assert segment.frames == (0, 0, 0, 0)


@pytest.mark.parametrize(("frame_count", "segment_frames"), [(0, 14), (5, 0)])
def test_no_frames_are_refused(frame_count, segment_frames):
    with pytest.raises(ValueError, match="at least 1 frame"):
        segment_plan(frame_count, segment_frames)
