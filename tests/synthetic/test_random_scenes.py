"""Random scenes are covered, repeatable and varied."""

from __future__ import annotations

import pytest
import torch
from tiny_scenes import SIZE, a_scene, scattered

from t4g_tracker.synthetic.clips import train_generator
from t4g_tracker.synthetic.layers import pose_at, to_canonical, to_frame
from t4g_tracker.synthetic.random_scenes import random_scene
from t4g_tracker.synthetic.rendering import render
from t4g_tracker.synthetic.scene import pixel_grid, tracks
from t4g_tracker.synthetic.surfaces import PATTERNS_ONLY
from t4g_tracker.synthetic.textures import xy_half


@pytest.mark.parametrize("seed", range(4))
def test_the_background_covers_every_frame(seed):
    scene = a_scene(seed, frames=24)
    bed = scene.layers[0]
    half = xy_half(tuple(bed.texture.shape[-2:]), bed.texture.device)
    for frame in range(24):
        seen = to_canonical(bed, pose_at(bed.pose, frame), pixel_grid(SIZE, half.device))
        assert (seen.abs() <= half).all()


def test_the_same_generator_gives_the_same_clip_and_another_does_not():
    first, again, other = (render(a_scene(seed, 3), torch.Generator().manual_seed(0)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_random_scenes_hide_and_show_points():
    hidden = [
        ~tracks(scene, torch.zeros(200, dtype=torch.int64), scattered(200, SIZE)).visibility
        for scene in (a_scene(seed, 24) for seed in range(4))
    ]
    share = torch.cat(hidden).float().mean()
    assert 0.05 < share < 0.6


def test_paces_reach_from_standing_still_to_crossing_the_frame():
    moved = []
    for index in range(64):
        scene = random_scene(train_generator(4, index), 2, (48, 64), PATTERNS_ONLY)
        bed = scene.layers[0]
        corner = torch.tensor([[20.0, 15.0]])
        before, after = (to_frame(bed, pose_at(bed.pose, frame), corner) for frame in (0, 1))
        moved.append(float((after - before).norm()))
    moved = torch.tensor(moved)
    assert 0.15 < (moved == 0).float().mean() < 0.4
    assert ((moved > 0) & (moved < 0.5)).float().mean() > 0.15
    assert (moved > 3).float().mean() > 0.05  # of frames whose sides are 48 and 64
