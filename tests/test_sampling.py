"""Drawing pairs: each is one physical point in two frames, and what is held back is not trained on."""

import pytest
import torch

from adaptation.sampling import hold_out, sample_frames, sample_pairs, sample_pairs_uniformly
from t4g_tracker.datatypes import Trajectories
from t4g_tracker.errors import TrackerError

VELOCITY = torch.tensor([2.5, -1.25])
FRAMES = 12


@pytest.fixture(scope="module")
def trajectories(slide):
    return slide(FRAMES, velocity=tuple(VELOCITY.tolist())).trajectories


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_hand(*runs):
    """Trajectories without gaps from (first frame, positions) each."""
    frames = [start + n for start, xy in runs for n in range(len(xy))]
    rows = torch.tensor([point for _, xy in runs for point in xy]).float()
    length = torch.tensor([len(xy) for _, xy in runs])
    return Trajectories(length, torch.tensor(frames, dtype=torch.int32), rows)


@pytest.mark.parametrize("frames_per_step", [2, 4, 7])
def test_every_pair_is_the_same_point_in_two_different_frames(trajectories, frames_per_step):
    for seed in range(20):
        batch = sample_pairs(trajectories, FRAMES, frames_per_step, 32, generator(seed))
        target = torch.arange(frames_per_step).repeat_interleave(32)
        assert (batch.source != target).all()
        gap = batch.frames[target] - batch.frames[batch.source]
        moved = batch.source_xy + gap[:, None] * VELOCITY
        torch.testing.assert_close(batch.target_xy, moved, atol=0.05, rtol=0)


def test_no_pair_is_of_a_frame_that_a_trajectory_skips():
    """At rest at x = 10 n, in the frames that have no gap: 0 to 5 without 2 and 3, or without 4."""
    frames = [torch.tensor(frames) for frames in ([0, 1, 4, 5], [0, 1, 2, 3, 5]) for _ in range(10)]
    length = torch.tensor([len(each) for each in frames])
    xy = 10.0 * torch.repeat_interleave(torch.arange(20), length)
    skipping = Trajectories(length, torch.cat(frames).int(), torch.stack([xy, xy], 1))
    for seed in range(20):
        batch = sample_pairs(skipping, 6, 3, 16, generator(seed))
        target = torch.arange(3).repeat_interleave(16)
        assert torch.equal(batch.source_xy, batch.target_xy)
        which = (batch.target_xy[:, 0] / 10).round().long().tolist()
        ends = torch.stack([batch.frames[batch.source], batch.frames[target]], 1).tolist()
        for n, pair in zip(which, ends, strict=True):
            assert set(pair) <= set(frames[n].tolist())


def test_pairs_come_from_all_over_the_frame(trajectories):
    batch = sample_pairs(trajectories, FRAMES, 2, 512, generator())
    assert (batch.target_xy.amax(0) - batch.target_xy.amin(0) > torch.tensor([80.0, 30.0])).all()


def test_the_same_generator_draws_the_same_and_another_does_not(trajectories):
    first, again, other = (sample_pairs(trajectories, FRAMES, 4, 32, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.frames, again.frames)
    assert torch.equal(first.source_xy, again.source_xy)
    assert not torch.equal(first.source_xy, other.source_xy)


def test_frames_are_distinct_and_both_neighbours_and_far_frames_occur():
    draws = [sample_frames(30, 2, generator(seed)) for seed in range(200)]
    gaps = torch.stack([draw[1] - draw[0] for draw in draws])
    assert gaps.min() == 1
    assert gaps.max() > 20
    assert {int(frame) for draw in draws for frame in draw} == set(range(30))


def test_a_clip_with_fewer_frames_than_wanted_gives_all_of_them():
    assert sample_frames(3, 8, generator()).tolist() == [0, 1, 2]


def test_half_of_the_pairs_come_from_the_foreground():
    at_rest = by_hand(*((0, [(n, 5)] * 6) for n in range(100)))
    foreground = torch.arange(100) < 10
    batch = sample_pairs(at_rest, 6, 2, 1000, generator(), foreground)
    share = (batch.target_xy[:, 0] < 10).float().mean()
    assert share == pytest.approx(0.5 + 0.5 * 0.1, abs=0.02)  # the other half comes from all


def test_an_empty_foreground_is_as_none(trajectories):
    empty = torch.zeros(len(trajectories), dtype=torch.bool)
    found = sample_pairs(trajectories, FRAMES, 2, 50, generator(), empty)
    wanted = sample_pairs(trajectories, FRAMES, 2, 50, generator())
    for part in ("frames", "source", "source_xy", "target_xy"):
        assert torch.equal(getattr(found, part), getattr(wanted, part))


@pytest.mark.parametrize("masked", [False, True])
def test_a_uniform_pair_is_the_same_point_in_two_frames_of_the_batch_in_either_order(trajectories, masked):
    foreground = torch.arange(len(trajectories)) % 3 == 0 if masked else None
    forward = []
    for seed in range(20):
        batch = sample_pairs_uniformly(trajectories, FRAMES, 4, 32, generator(seed), foreground)
        assert len(batch.frames) == len(batch.frames.unique())
        assert 4 <= len(batch.frames) <= (8 if masked else 4)
        assert (batch.target.diff() >= 0).all()
        gap = batch.frames[batch.target] - batch.frames[batch.source]
        assert (gap != 0).all()
        moved = batch.source_xy + gap[:, None] * VELOCITY
        torch.testing.assert_close(batch.target_xy, moved, atol=0.05, rtol=0)
        forward.append((gap > 0).float().mean().item())
    assert sum(forward) / len(forward) == pytest.approx(0.5, abs=0.05)


def test_uniform_frames_come_from_the_whole_video_evenly():
    still = by_hand(*((0, [(n, 5)] * 30) for n in range(20)))
    frames = torch.cat(
        [sample_pairs_uniformly(still, 30, 4, 2, generator(seed)).frames for seed in range(600)]
    )
    share = frames.bincount(minlength=30) / 600
    assert (share - 4 / 30).abs().max() < 0.05


def test_a_uniform_half_is_foreground_and_no_trajectory_comes_twice():
    at_rest = by_hand(*((0, [(n, 5)] * 6) for n in range(100)))
    foreground = torch.arange(100) < 30
    batch = sample_pairs_uniformly(at_rest, 6, 4, 10, generator(), foreground)
    assert len(batch.source) == 40
    assert (batch.target_xy[:, 0] < 30).sum() == 20
    assert len(batch.target_xy.unique(dim=0)) == 40
    few = torch.arange(100) < 5  # fewer than asked for: all of them
    batch = sample_pairs_uniformly(at_rest, 6, 4, 10, generator(), few)
    assert sorted(batch.target_xy[batch.target_xy[:, 0] < 5][:, 0].tolist()) == [0, 1, 2, 3, 4]
    assert len(sample_pairs_uniformly(at_rest, 6, 4, 10, generator(), ~few & few).source) == 20


def test_trajectories_that_share_no_frames_are_refused_rather_than_tried_for_ever():
    apart = by_hand((0, [(1, 1)]), (5, [(2, 2)]))
    rules = r"trajectories\.uncertainty_px \(rule=gaps\) or trajectories\.cycle_threshold_px \(rule=chained\)"
    for sample in (sample_pairs, sample_pairs_uniformly):
        with pytest.raises(TrackerError, match=rf"; lower adaptation\.frames_per_step, or .* {rules}"):
            sample(apart, 10, 3, 8, generator())
        with pytest.raises(TrackerError, match=rf"too short .*; for longer ones .* {rules}"):
            sample(apart, 10, 2, 8, generator())  # fewer frames than 2 make no pair


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_what_is_held_out_starts_in_other_blocks_than_what_is_trained_on(trajectories, share):
    training, held = hold_out(trajectories, (64, 128), share, generator())
    assert len(training) + len(held) == len(trajectories)
    assert len(training) > 0
    assert len(held) > 0

    def blocks(some):
        return {tuple(block) for block in (some.xy[some.first].clamp_min(0) // 24).long().tolist()}

    assert not blocks(training) & blocks(held)


def test_held_out_blocks_are_small_and_lie_all_over_the_frame():
    """One in twenty, and nowhere far away: what is measured on them hardly depends on which they are."""
    everywhere = by_hand(*((0, [(x, y), (x, y)]) for x in range(3, 576, 8) for y in range(3, 320, 8)))
    shares = []
    for seed in range(5):
        _, held = hold_out(everywhere, (320, 576), 0.05, generator(seed))
        start = held.xy[held.first]
        shares.append(len(held) / len(everywhere))
        nearest = torch.cdist(everywhere.xy[everywhere.first], start).amin(1)
        assert nearest.max() < 200
        blocks = (start // 24).long().unique(dim=0)
        assert len(blocks) == 20
    assert sum(shares) / 5 == pytest.approx(0.06, abs=0.01)


@pytest.mark.parametrize("few", [False, True])
def test_all_that_can_be_sampled_are_sampled_alike_often(few):
    """Where nearly all trajectories can be, and where one in three hundred can and they are listed."""
    count = 1200
    here = [n % 300 == 0 if few else n % 10 != 0 for n in range(count)]
    trajectories = by_hand(*((0 if shown else 1, [(n, 5), (n, 6)]) for n, shown in enumerate(here)))
    batch = sample_pairs(trajectories, 2, 2, 40_000, generator())  # frames 0 and 1, which only some are in
    seen = torch.bincount(batch.source_xy[:, 0].long(), minlength=count)
    wanted = torch.tensor(here)
    assert not seen[~wanted].any()
    share = seen[wanted] / seen.sum() * int(wanted.sum())
    assert share.min() > (0.9 if few else 0.5)
    assert share.max() < (1.1 if few else 1.6)


def test_nothing_is_held_out_where_nothing_is_asked_for(trajectories):
    training, held = hold_out(trajectories, (64, 128), 0.0, generator())
    assert len(held) == 0
    assert torch.equal(training.xy, trajectories.xy)


def test_where_all_start_in_one_block_some_are_held_out_all_the_same():
    crowd = by_hand(*((0, [(5 + n, 5), (6 + n, 5)]) for n in range(10)))
    training, held = hold_out(crowd, (64, 128), 0.2, generator())
    assert len(training) > len(held) > 0
