"""Trajectories by the published rule: right on known motion, and cut where flow cannot be trusted."""

import dataclasses

import pytest
import torch

from t4g_tracker.coordinates import inside
from t4g_tracker.datatypes import FlowFields
from t4g_tracker.errors import ConfigError, TrackerError
from t4g_tracker.motion.fields import pairs_over_gaps
from t4g_tracker.motion.settings import MotionConfig, TrajectoriesConfig
from t4g_tracker.motion.trajectories import make_trajectories

SIZE = (320, 576)  # where thresholds mean what they say
PLAIN = TrajectoriesConfig(rule="chained", direct_gaps=())


def constant_flow(velocity, frame_count, size=SIZE):
    step = torch.tensor(velocity)[None, :, None, None].half()
    forward = step.expand(frame_count - 1, 2, *size).clone()
    return FlowFields.of_neighbours(forward, -forward)


def flow_of(frame_count, gaps, displacement, size=SIZE):
    """Flow over gaps to the right by ``displacement(i, j)``, everywhere the same."""
    pairs = pairs_over_gaps(frame_count, gaps)
    right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(len(pairs), 2, *size)
    there, back = (
        torch.tensor([float(displacement(*pair)) for pair in ways]).view(-1, 1, 1, 1) * right
        for ways in (pairs, [(j, i) for i, j in pairs])
    )
    return FlowFields(torch.tensor(pairs), there, back)


def chain(flow, config=PLAIN, size=SIZE):
    """Trajectories by the published rule, of flow whose first pairs are those of neighbouring frames."""
    return make_trajectories(flow, int(flow.pairs.max()) + 1, config, size, MotionConfig())


def last(trajectories):
    """The last frame of each."""
    return trajectories.frame[trajectories.first + trajectories.length - 1]


@pytest.mark.parametrize("velocity", [(2.0, -1.0), (0.3, 0.7), (-3.3, 0.0)])
def test_constant_flow_gives_straight_trajectories(velocity):
    found = chain(constant_flow(velocity, 12))
    begin, owner = found.xy[found.first], found.owner
    wanted = begin[owner] + (found.frame - found.begin[owner])[:, None] * torch.tensor(velocity)
    torch.testing.assert_close(found.xy, wanted, atol=0.05, rtol=0)


def test_a_trajectory_ends_where_it_leaves_the_frame():
    found = chain(constant_flow((10.0, 0.0), 12))
    assert inside(found.xy, SIZE).all()
    end = found.xy[found.first + found.length - 1]
    ends_early = last(found) < 11
    assert ends_early.any()
    assert (end[ends_early, 0] + 10 > SIZE[1] - 0.5).all()


def test_a_trajectory_ends_where_the_cycle_error_is_large():
    flow = constant_flow((1.0, 0.0), 9)
    flow.backward[4, 0, 100:200, 200:300] += 1.6  # between frames 4 and 5 a patch does not lead back
    found = chain(flow)
    x, y = found.xy.unbind(1)
    at_patch = (found.frame == 5) & (x > 201) & (x < 298) & (y > 101) & (y < 198)
    assert at_patch.any()
    assert (found.begin[found.owner[at_patch]] == 5).all()  # only newly started ones are there
    assert ((found.begin <= 4) & (last(found) >= 5)).any()


def test_a_cycle_error_below_the_threshold_is_accepted():
    flow = constant_flow((1.0, 0.0), 9)
    flow.backward[4] += 1.0  # an error of 1.41 px
    assert (chain(flow).length == 9).any()


@pytest.mark.parametrize("velocity", [(7.0, 3.0), (-1.3, -2.2), (0.0, 0.0)])
def test_in_every_frame_a_trajectory_passes_every_tile(velocity):
    config = dataclasses.replace(PLAIN, minimum_frames=2, spacing_px=16)
    found = chain(constant_flow(velocity, 7), config)
    for t in range(6):  # one that starts in the last frame has no second frame
        tile = (found.xy[found.frame == t].round().long().clamp_min(0) // 16) @ torch.tensor([1, 36])
        # those on the leading edge leave the frame at once and are too short to keep
        passed = set(tile.tolist())
        inner = {row * 36 + column for row in range(1, 19) for column in range(1, 35)}
        assert inner <= passed


def test_where_one_passes_no_new_one_starts():
    found = chain(constant_flow((0.0, 0.0), 7))
    assert len(found) == (320 // 4) * (576 // 4)
    assert (found.length == 7).all()


def drifting_trajectories(direct, direct_gaps=(4,)):
    """Neighbouring flow of 1 px a frame, contradicted by flow over gap 4 that is ``direct(i, j)``."""
    flow = flow_of(13, (1, 4), lambda i, j: direct(i, j) if abs(i - j) == 4 else j - i)
    return chain(flow, dataclasses.replace(PLAIN, direct_gaps=direct_gaps))


def test_a_drifting_trajectory_is_cut_where_the_direct_flow_first_contradicts_it():
    def slipped(i, j):  # from frame 8 on, what is shown has stayed 3 px behind the chained point
        return (j - i) - 3.0 * ((j >= 8) - (i >= 8))

    found = drifting_trajectories(slipped)
    covered = found.begin <= 4  # the direct flow from frame 4 to 8 is the first to contradict
    assert not (covered & (last(found) >= 8)).any()  # so none of their training pairs spans the drift
    assert (last(found) == 7).any()
    assert (found.begin == 8).any()


def test_flow_over_gaps_that_are_not_tested_cuts_nothing():
    found = drifting_trajectories(lambda i, j: (j - i) - 3.0 * ((j >= 8) - (i >= 8)), direct_gaps=(8,))
    assert torch.equal(found.length, chain(constant_flow((1.0, 0.0), 13)).length)


@pytest.mark.parametrize(
    "direct",
    [
        lambda i, j: (j - i) - 1.9 * ((j >= 8) - (i >= 8)),  # within the threshold
        lambda i, j: abs(j - i) + 9.0,  # does not lead back, so it says nothing
    ],
)
def test_a_direct_flow_that_agrees_or_is_not_consistent_cuts_nothing(direct):
    found = drifting_trajectories(direct)
    assert torch.equal(found.length, chain(constant_flow((1.0, 0.0), 13)).length)


def test_trajectories_come_in_pixels_of_the_working_size():
    found = chain(constant_flow((2.0, 0.0), 5, (480, 960)))
    step = found.xy[found.first + 1] - found.xy[found.first]
    torch.testing.assert_close(step, torch.tensor([1.2, 0.0]).expand_as(step), atol=0.01, rtol=0)
    assert inside(found.xy, (320, 576)).all()


def test_thresholds_shrink_with_the_frame():
    flow = constant_flow((0.0, 0.0), 5, (160, 288))
    flow.backward[2] += 0.6  # 0.85 px, more than 1.5 px at 320x576 means here
    found = chain(flow, dataclasses.replace(PLAIN, minimum_frames=2), (160, 288))
    assert not ((found.begin <= 2) & (last(found) >= 3)).any()


def test_memory_grows_with_what_was_tracked():
    frame_count, size = 12, (160, 288)
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(frame_count - 1, 2, *size, generator=generator) * 0.15
    found = chain(FlowFields.of_neighbours(small.half(), -small.half()), size=size)
    bytes_held = sum(part.nbytes for part in (found.length, found.frame, found.xy))
    at_full_size = bytes_held * (100 / frame_count) * (SIZE[0] * SIZE[1]) / (size[0] * size[1])
    assert at_full_size < 500e6
    pixels = frame_count * size[0] * size[1]
    assert found.xy.shape[0] < pixels  # fewer positions than the video has pixels
    assert found.xy.shape[0] > frame_count * (size[0] // 4) * (size[1] // 4) / 2  # and yet they cover it


def test_when_nothing_survives_the_message_says_what_to_do():
    flow = constant_flow((0.0, 0.0), 5, (64, 64))
    flow.backward.fill_(9.0)
    with pytest.raises(TrackerError, match=r"no point .* survives .* raise trajectories.cycle_threshold_px"):
        chain(flow, size=(64, 64))


@pytest.mark.parametrize(
    "settings",
    [
        {"cycle_threshold_px": 0.0},
        {"spacing_px": 0},
        {"minimum_frames": 1},
        {"direct_gaps": (1,)},
        {"start_every": 0},
        {"uncertainty_px": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="trajectories"):
        TrajectoriesConfig(**settings)
