"""Trajectories along flow over several gaps: on the true point, and only where it is seen."""

import dataclasses

import pytest
import torch

from t4g_tracker.coordinates import inside
from t4g_tracker.datatypes import FlowFields
from t4g_tracker.errors import TrackerError
from t4g_tracker.motion import trajectories as module
from t4g_tracker.motion.settings import MotionConfig, TrajectoriesConfig, effective_trajectories
from t4g_tracker.motion.trajectories import gap_trajectories, make_trajectories

GAPS = (1, 2, 4, 8)
FRAMES, SIZE = 20, (64, 128)
MOTION = MotionConfig(step_cost=0.02)
SPARSE = TrajectoriesConfig(spacing_px=20)  # every 4 px at this size


@pytest.fixture(scope="module")
def behind_a_bar(slide):
    return slide(FRAMES, SIZE, (0.5, 0.0), bar_px=28.0, bar_left_px=-30.0, bar_speed_px=7.0)


def made(clip, config=SPARSE, gaps=GAPS):
    return make_trajectories(clip.flow_over(*gaps), clip.frame_count, config, clip.size, MOTION)


def begun_on_the_bar(clip, found):
    """Which trajectories have most of their positions on the bar: they are of a point of the bar."""
    covered = torch.stack([clip.covered(xy, int(t)) for xy, t in zip(found.xy, found.frame, strict=True)])
    share = torch.zeros(len(found)).index_add_(0, found.owner, covered.float()) / found.length
    return share > 0.5, covered


def test_every_position_is_of_one_point_in_a_frame_that_shows_it(behind_a_bar):
    clip, found = behind_a_bar, made(behind_a_bar)
    of_bar, covered = begun_on_the_bar(clip, found)
    assert 0 < of_bar.sum() < len(found) / 2
    assert torch.equal(covered, of_bar[found.owner])
    speed = torch.where(of_bar, clip.bar_speed_px, clip.velocity[0])[found.owner]
    elapsed = found.frame - found.begin[found.owner]
    moved = found.xy - found.xy[found.first][found.owner]
    torch.testing.assert_close(moved[:, 0], speed * elapsed, atol=0.1, rtol=0)
    torch.testing.assert_close(moved[:, 1], torch.zeros(len(moved)), atol=0.1, rtol=0)


def test_a_trajectory_skips_the_frames_that_hide_its_point_and_goes_on_behind_them(behind_a_bar):
    found = made(behind_a_bar)
    steps = found.frame[1:] - found.frame[:-1]
    skips = steps[found.owner[1:] == found.owner[:-1]]
    assert (skips >= 1).all()
    assert (skips > 4).sum() > 100
    with_neighbours_alone = made(behind_a_bar, gaps=(1,))
    steps = with_neighbours_alone.frame[1:] - with_neighbours_alone.frame[:-1]
    assert (steps[with_neighbours_alone.owner[1:] == with_neighbours_alone.owner[:-1]] == 1).all()


def test_a_trajectory_stays_in_the_frame_and_lasts_up_to_its_border(slide):
    found = made(slide(FRAMES, SIZE, (9.0, 0.0)))
    assert inside(found.xy, SIZE).all()
    whole = (found.xy[found.first + found.length - 1, 0] + 9 > SIZE[1] - 0.5) | (
        found.frame[found.first + found.length - 1] == FRAMES - 1
    )
    assert whole.all()  # each ends at the border of the frame or of the video


@pytest.mark.parametrize("start_every", [1, 7])
def test_points_start_in_every_few_frames_and_are_followed_both_ways_within_reach(slide, start_every):
    clip = slide(FRAMES, SIZE, (0.0, 0.0))
    config = dataclasses.replace(SPARSE, start_every=start_every, reach=3)
    found = made(clip, config)
    tiles = (SIZE[0] // 4) * (SIZE[1] // 4)
    begin, length = found.begin.view(-1, tiles), found.length.view(-1, tiles)
    for row, start in enumerate(range(0, FRAMES, start_every)):
        assert (begin[row] == max(0, start - 3)).all()
        assert (begin[row] + length[row] == min(FRAMES, start + 4)).all()
    assert len(begin) == len(range(0, FRAMES, start_every))


def test_positions_of_greater_uncertainty_than_allowed_are_left_out():
    """Each flow misses by 0.1 px there and back, and costs 0.01 + 0.02."""
    size = (320, 576)  # where lengths mean what they say
    there = torch.zeros(FRAMES - 1, 2, *size)
    flow = FlowFields.of_neighbours(there, there + torch.tensor([0.1, 0.0]).view(1, 2, 1, 1))
    config = TrajectoriesConfig(spacing_px=32, start_every=100, uncertainty_px=0.5)
    found = gap_trajectories(flow, FRAMES, config, size, MOTION)
    assert (found.length == 1 + 8).all()  # eight steps cost 0.24, nine 0.27, and 0.25 is allowed
    wider = gap_trajectories(flow, FRAMES, dataclasses.replace(config, uncertainty_px=0.59), size, MOTION)
    assert (wider.length == 1 + 11).all()  # 0.33, where 0.35 is allowed


def test_uncertainty_shrinks_with_the_frame(slide):
    """Half a pixel means a quarter at half the size, its square a quarter of that."""
    flow = slide(FRAMES, (160, 288), (0.0, 0.0)).flow
    config = TrajectoriesConfig(spacing_px=32, start_every=100, uncertainty_px=0.5)
    found = gap_trajectories(flow, FRAMES, config, (160, 288), MOTION)
    assert (found.length == 1 + 3).all()  # three steps cost 0.06, and 0.0625 is allowed


def test_positions_are_in_pixels_of_the_working_size(slide):
    clip = slide(8, (64, 128), (2.0, -1.0))
    found = gap_trajectories(clip.flow_over(1, 2), 8, SPARSE, (32, 256), MOTION)
    step = (found.xy[1:] - found.xy[:-1])[found.owner[1:] == found.owner[:-1]]
    torch.testing.assert_close(step, torch.tensor([4.0, -0.5]).expand_as(step), atol=0.02, rtol=0)
    assert inside(found.xy, (32, 256)).all()


@pytest.mark.parametrize("most", [2000, 20_000])
def test_in_long_videos_points_start_so_far_apart_that_memory_holds_their_positions(slide, monkeypatch, most):
    clip = slide(FRAMES, SIZE, (0.0, 0.0))
    whole = made(clip, TrajectoriesConfig())
    assert len(whole.xy) > 2 * most
    monkeypatch.setattr(module, "MOST_POSITIONS", most)
    found = made(clip, TrajectoriesConfig())
    assert most / 2 < len(found.xy) <= 1.15 * most  # tiles that the border cuts count whole
    within = found.xy[found.first]
    assert (within.amax(0) - within.amin(0) > torch.tensor([90.0, 35.0])).all()  # and yet all over the frame


def test_when_nothing_survives_the_message_names_the_setting_of_this_rule(slide):
    flow = slide(6, SIZE, (0.0, 0.0)).flow
    flow.backward.fill_(9.0)
    with pytest.raises(TrackerError, match=r"no point .* survives .* raise trajectories.uncertainty_px"):
        make_trajectories(flow, 6, SPARSE, SIZE, MOTION)


def test_too_short_trajectories_are_dropped(slide):
    clip = slide(6, SIZE, (40.0, 0.0))  # a point is in the frame for at most four frames
    found = made(clip, dataclasses.replace(SPARSE, minimum_frames=3, start_every=1))
    assert found.length.min() == 3
    assert made(clip, dataclasses.replace(SPARSE, minimum_frames=2, start_every=1)).length.min() == 2


def test_progress_counts_the_frames_in_which_points_start(slide):
    clip, seen = slide(FRAMES, SIZE), []
    make_trajectories(clip.flow, FRAMES, SPARSE, SIZE, MOTION, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("rule", ["gaps", "chained"])
def test_settings_of_the_other_rule_are_reset(rule):
    of = {
        "gaps": {"start_every": 9, "reach": 9, "uncertainty_px": 9.0},
        "chained": {"cycle_threshold_px": 9.0, "direct_threshold_px": 9.0, "direct_gaps": (9,)},
    }
    changed = TrajectoriesConfig(rule=rule, spacing_px=9, minimum_frames=9, **of["gaps"], **of["chained"])
    wanted = TrajectoriesConfig(rule=rule, spacing_px=9, minimum_frames=9, **of[rule])
    assert effective_trajectories(changed) == wanted
