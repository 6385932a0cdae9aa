"""Trajectories: chained flow is exact on known motion, and ends where flow cannot be trusted."""

import pytest
import torch
from t4g_tracker.trajectories import (
    TrajectoriesConfig,
    chain_flow,
    follow,
    sample_flow,
)

from t4g_tracker.coordinates import inside
from t4g_tracker.datatypes import FlowSequence
from t4g_tracker.errors import ConfigError, TrackerError

SIZE = (320, 576)  # where thresholds mean what they say
PLAIN = TrajectoriesConfig(direct_gaps=())


def constant_flow(velocity, frame_count, size=SIZE):
    step = torch.tensor(velocity)[None, :, None, None].half()
    forward = step.expand(frame_count - 1, 2, *size).clone()
    return FlowSequence(forward, -forward)


def frames_of(trajectories):
    """The frame that each row of ``xy`` belongs to, and the trajectory."""
    owner = torch.repeat_interleave(torch.arange(len(trajectories)), trajectories.length)
    return torch.arange(len(owner)) - trajectories.first[owner] + trajectories.start[owner], owner


@pytest.mark.parametrize("velocity", [(2.0, -1.0), (0.3, 0.7), (-3.3, 0.0)])
def test_constant_flow_gives_straight_trajectories(velocity):
    found = chain_flow(constant_flow(velocity, 12), PLAIN, SIZE)
    frame, owner = frames_of(found)
    begin = found.xy[found.first][owner]
    wanted = begin + (frame - found.start[owner])[:, None] * torch.tensor(velocity)
    torch.testing.assert_close(found.xy, wanted, atol=0.05, rtol=0)


def test_a_trajectory_ends_where_it_leaves_the_frame():
    found = chain_flow(constant_flow((10.0, 0.0), 12), PLAIN, SIZE)
    assert inside(found.xy, SIZE).all()
    last = found.xy[found.first + found.length - 1]
    ends_early = found.start + found.length < 12
    assert ends_early.any()
    assert (last[ends_early, 0] + 10 > SIZE[1] - 0.5).all()


def test_a_trajectory_ends_where_the_cycle_error_is_large():
    flow = constant_flow((1.0, 0.0), 9)
    flow.backward[4, 0, 100:200, 200:300] += 1.6  # between frames 4 and 5 a patch does not lead back
    found = chain_flow(flow, PLAIN, SIZE)
    frame, owner = frames_of(found)
    x, y = found.xy.unbind(1)
    at_patch = (frame == 5) & (x > 201) & (x < 298) & (y > 101) & (y < 198)
    assert at_patch.any()
    assert (found.start[owner[at_patch]] == 5).all()  # only newly started ones are there
    across = (found.start <= 4) & (found.start + found.length > 5)
    assert across.any()


def test_a_cycle_error_below_the_threshold_is_accepted():
    flow = constant_flow((1.0, 0.0), 9)
    flow.backward[4] += 1.0  # an error of 1.41 px
    assert (chain_flow(flow, PLAIN, SIZE).length == 9).any()


@pytest.mark.parametrize("velocity", [(7.0, 3.0), (-1.3, -2.2), (0.0, 0.0)])
def test_in_every_frame_a_trajectory_passes_every_tile(velocity):
    config = TrajectoriesConfig(direct_gaps=(), minimum_frames=2, spacing_px=16)
    found = chain_flow(constant_flow(velocity, 7), config, SIZE)
    frame, _ = frames_of(found)
    for t in range(6):  # one that starts in the last frame has no second frame
        tile = (found.xy[frame == t].round().long().clamp_min(0) // 16) @ torch.tensor([1, 36])
        # those on the leading edge leave the frame at once and are too short to keep
        passed = set(tile.tolist())
        inner = {row * 36 + column for row in range(1, 19) for column in range(1, 35)}
        assert inner <= passed


def test_where_one_passes_no_new_one_starts():
    found = chain_flow(constant_flow((0.0, 0.0), 7), PLAIN, SIZE)
    assert len(found) == (320 // 4) * (576 // 4)
    assert (found.length == 7).all()


def drifting_trajectories(direct, **settings):
    """Constant chained flow of 1 px a frame, contradicted by a direct flow that is ``direct(i, j)``."""

    def direct_flow(pairs):
        return torch.stack([torch.full((2, *SIZE), direct(i, j)) for i, j in pairs]) * torch.tensor(
            [1.0, 0.0]
        ).view(1, 2, 1, 1)

    config = TrajectoriesConfig(direct_gaps=(4,), direct_pairs=100, **settings)
    return chain_flow(constant_flow((1.0, 0.0), 13), config, SIZE, direct_flow)


def test_a_drifting_trajectory_is_cut_where_the_direct_flow_first_contradicts_it():
    def slipped(i, j):  # from frame 8 on, what is shown has stayed 3 px behind the chained point
        return (j - i) - 3.0 * ((j >= 8) - (i >= 8))

    found = drifting_trajectories(slipped)
    end = found.start + found.length
    covered = found.start <= 4  # the direct flow from frame 4 to 8 is the first to contradict
    assert not (covered & (end > 8)).any()  # so none of their training pairs spans the drift
    assert (end == 8).any()
    assert (found.start == 8).any()


@pytest.mark.parametrize(
    "direct",
    [
        lambda i, j: (j - i) - 1.9 * ((j >= 8) - (i >= 8)),  # within the threshold
        lambda i, j: abs(j - i) + 9.0,  # does not lead back, so it says nothing
    ],
)
def test_a_direct_flow_that_agrees_or_is_not_consistent_cuts_nothing(direct):
    found = drifting_trajectories(direct)
    plain = chain_flow(constant_flow((1.0, 0.0), 13), PLAIN, SIZE)
    assert torch.equal(found.length, plain.length)


def test_at_most_the_wanted_number_of_direct_flows_is_computed():
    computed = []

    def direct_flow(pairs):
        computed.extend(pairs)
        return torch.zeros(len(pairs), 2, 64, 64)

    config = TrajectoriesConfig(direct_pairs=5)
    chain_flow(constant_flow((0.0, 0.0), 60, (64, 64)), config, (64, 64), direct_flow)
    forward = computed[0::2]
    assert len(forward) == 5
    assert [(j, i) for i, j in forward] == computed[1::2]
    assert {j - i for i, j in forward} == {4, 8, 16}


def test_trajectories_come_in_pixels_of_the_working_size():
    found = chain_flow(constant_flow((2.0, 0.0), 5, (480, 960)), PLAIN, (320, 576))
    step = found.xy[found.first + 1] - found.xy[found.first]
    torch.testing.assert_close(step, torch.tensor([1.2, 0.0]).expand_as(step), atol=0.01, rtol=0)
    assert inside(found.xy, (320, 576)).all()


def test_thresholds_shrink_with_the_frame():
    flow = constant_flow((0.0, 0.0), 5, (160, 288))
    flow.backward[2] += 0.6  # 0.85 px, more than 1.5 px at 320x576 means here
    found = chain_flow(flow, TrajectoriesConfig(direct_gaps=(), minimum_frames=2), (160, 288))
    assert not ((found.start <= 2) & (found.start + found.length > 3)).any()


def test_memory_grows_with_what_was_tracked():
    frame_count, size = 12, (160, 288)
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(frame_count - 1, 2, *size, generator=generator) * 0.15
    found = chain_flow(FlowSequence(small.half(), -small.half()), PLAIN, size)
    bytes_held = sum(part.nbytes for part in (found.start, found.length, found.first, found.xy))
    at_full_size = bytes_held * (100 / frame_count) * (SIZE[0] * SIZE[1]) / (size[0] * size[1])
    assert at_full_size < 500e6
    pixels = frame_count * size[0] * size[1]
    assert found.xy.shape[0] < pixels  # fewer positions than the video has pixels
    assert found.xy.shape[0] > frame_count * (size[0] // 4) * (size[1] // 4) / 2  # and yet they cover it


def test_when_nothing_survives_the_message_says_what_to_do():
    flow = constant_flow((0.0, 0.0), 5, (64, 64))
    flow.backward.fill_(9.0)
    with pytest.raises(TrackerError, match=r"no point .* survives .* raise trajectories.cycle_threshold_px"):
        chain_flow(flow, PLAIN, (64, 64))


def test_flow_is_read_between_pixels_and_repeats_at_the_border():
    flow = torch.zeros(2, 8, 8)
    flow[0] = torch.arange(8.0)
    found = sample_flow(flow, torch.tensor([[2.25, 3.0], [-4.0, 3.0], [20.0, 3.0]]))
    torch.testing.assert_close(found[:, 0], torch.tensor([2.25, 0.0, 7.0]))
    there, cycle_error = follow(flow, -flow * 0, torch.tensor([[2.0, 3.0]]))
    assert there.tolist() == [[4.0, 3.0]]
    assert cycle_error.item() == pytest.approx(2.0)


@pytest.mark.parametrize(
    "settings", [{"cycle_threshold_px": 0.0}, {"spacing_px": 0}, {"minimum_frames": 1}, {"direct_gaps": (1,)}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="trajectories"):
        TrajectoriesConfig(**settings)
