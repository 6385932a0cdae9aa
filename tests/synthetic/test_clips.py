"""Clips and pairs for training are exact, repeatable and apart from validation."""

from __future__ import annotations

import pytest
import torch
from tiny_scenes import CPU, SIZE, read_at

from t4g_tracker.synthetic.clips import (
    CLIPS_VERSION,
    generate_clip,
    generate_pair,
    train_generator,
    val_generator,
    val_pairs,
)
from t4g_tracker.synthetic.scene import pixel_grid


def a_clip(seed, points=64):
    return generate_clip(train_generator(0, seed), 6, SIZE, points)


@pytest.mark.parametrize("seed", [1, 2, 8])  # pairs that move by more than 2 px
def test_the_flow_of_a_pair_brings_each_pixel_to_its_own_colour(seed):
    pair = generate_pair(train_generator(3, seed), SIZE)
    first, second = pair.first.float(), pair.second.float()
    for source, target, moved, seen in (
        (first, second, pair.forward, pair.forward_valid),
        (second, first, pair.backward, pair.backward_valid),
    ):
        moving = seen & (moved.norm(dim=0) > 2)
        start, step = pixel_grid(SIZE, CPU)[moving], moved[:, moving].T
        right, wrong = (
            (read_at(target, xy) - source[:, moving]).abs().mean() for xy in (start + step, start - step)
        )
        assert moving.float().mean() > 0.1
        assert right < 0.3 * wrong


def test_flow_is_known_where_a_point_is_hidden_or_outside():
    pair = generate_pair(train_generator(3, 2), SIZE)
    assert pair.forward.isfinite().all()
    assert pair.backward.isfinite().all()
    assert (~pair.forward_valid).any()


@pytest.mark.parametrize("seed", range(3))
def test_every_point_is_seen_in_some_frame_and_inside_it_then(seed):
    clip = a_clip(seed)
    assert clip.visibility.any(dim=1).all()
    at = clip.xy[clip.visibility]
    assert (at >= -0.5).all()
    assert (at <= torch.tensor([SIZE[1] - 0.5, SIZE[0] - 0.5])).all()


def test_the_same_generator_state_gives_the_same_clip_and_pair():
    first, again, other = a_clip(5), a_clip(5), a_clip(6)
    assert torch.equal(first.frames, again.frames)
    assert torch.equal(first.xy, again.xy)
    assert not torch.equal(first.frames, other.frames)
    one, two = (generate_pair(train_generator(0, 1), SIZE) for _ in range(2))
    assert torch.equal(one.second, two.second)
    assert torch.equal(one.forward, two.forward)


def test_no_training_has_a_seed_of_validation():
    training = {train_generator(seed, index).initial_seed() for seed in range(40) for index in range(500)}
    validation = {val_generator(index).initial_seed() for index in range(2000)}
    assert len(training) == 40 * 500
    assert len(validation) == 2000
    assert not training & validation
    assert torch.equal(val_pairs(1, SIZE)[0].first, generate_pair(val_generator(0), SIZE).first)


def test_clips_and_pairs_are_those_of_this_version():
    """Cached ones are read by this version number, so it must be raised when others are generated."""
    assert CLIPS_VERSION == 2
    clip = generate_clip(train_generator(0, 17), 6, SIZE, 64)
    ends = torch.tensor([[[97.499, 42.666], [97.812, 42.432]], [[23.837, 62.830], [23.973, 61.875]]])
    torch.testing.assert_close(clip.xy[:2, [0, 5]], ends, atol=0.01, rtol=0)
    assert float(clip.frames.float().mean()) == pytest.approx(54.31, abs=0.3)
    visibility = generate_clip(train_generator(3, 5), 6, SIZE, 64).visibility
    assert int(visibility.sum()) == pytest.approx(365, abs=2)
    pair = generate_pair(train_generator(0, 17), SIZE)
    torch.testing.assert_close(
        pair.forward.mean(dim=(1, 2)), torch.tensor([0.0076, -0.0007]), atol=1e-3, rtol=0
    )
    assert float(pair.first.float().mean()) == pytest.approx(54.15, abs=0.3)


def test_frames_far_apart_show_the_same_place_where_little_motion_is_asked_for():
    generator = train_generator(5, 0)
    for _ in range(6):
        pair = generate_pair(generator, SIZE, gaps=(16,), largest_motion=0.1)
        assert float(pair.forward.norm(dim=0).median()) <= 0.1 * (SIZE[0] ** 2 + SIZE[1] ** 2) ** 0.5
