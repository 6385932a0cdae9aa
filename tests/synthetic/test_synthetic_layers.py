"""A layer's motion and its inverse are exact."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_scenes import CPU, SIZE, a_scene, map_layer, scattered, square_layer

from t4g_tracker.synthetic.layers import pose_at, to_canonical, to_frame
from t4g_tracker.synthetic.scene import pixel_grid


@pytest.mark.parametrize("seed", range(4))
def test_the_inverse_of_the_motion_returns_the_same_point(seed):
    scene = a_scene(seed)
    xy = scattered(300, SIZE)
    for layer in scene.layers:
        pose = pose_at(layer.pose, 5, 0.2)
        again = to_frame(layer, pose, to_canonical(layer, pose, xy))
        assert (again - xy).abs().max() < 0.01


def test_a_bend_that_could_fold_a_layer_is_refused():
    layer = square_layer(9, [(20.0, 10.0)] * 2, 1.0)
    wave, push = torch.tensor([[0.1, 0.0]]), torch.tensor([[0.0, 6.0]])  # a slope of 0.6
    with pytest.raises(ValueError, match="push less"):
        dataclasses.replace(layer, wave=wave, push=push)


@pytest.mark.parametrize("tilt", [None, (0.001, -0.0012), (0.002, 0.0)])
def test_perspective_has_an_exact_inverse(tilt):
    layer = map_layer(tilt)
    xy = pixel_grid(SIZE, CPU)
    for frame in range(3):
        pose = pose_at(layer.pose, frame)
        assert (to_frame(layer, pose, to_canonical(layer, pose, xy)) - xy).abs().max() < 0.01


def test_a_tilted_layer_shrinks_towards_its_far_side():
    layer = dataclasses.replace(map_layer((0.002, 0.0), waves=False))
    x = to_frame(layer, pose_at(layer.pose, 0), torch.tensor([[-50.0, 0.0], [0.0, 0.0], [50.0, 0.0]]))
    near, far = (x[1:] - x[:-1]).norm(dim=-1)
    assert near / far == pytest.approx(1.1 / 0.9, rel=1e-3)
