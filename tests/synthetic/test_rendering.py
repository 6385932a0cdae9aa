"""Pictures show what the motion and the order of layers say."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_scenes import CPU, SIZE, a_scene, evenly_lit, map_layer, read_at, scattered

from t4g_tracker.synthetic.clips import train_generator
from t4g_tracker.synthetic.layers import Layer, Pose, pose_at, to_canonical
from t4g_tracker.synthetic.random_scenes import random_scene
from t4g_tracker.synthetic.rendering import render
from t4g_tracker.synthetic.scene import Scene, pixel_grid, top_layer, tracks
from t4g_tracker.synthetic.surfaces import PATTERNS_ONLY


@pytest.mark.parametrize("seed", range(3))
def test_rendered_colours_follow_the_tracks_and_not_a_shifted_copy(seed):
    scene = evenly_lit(a_scene(seed))
    frames = render(scene)
    frame = torch.randint(scene.frame_count, (400,), generator=torch.Generator().manual_seed(2))
    xy = scattered(400, SIZE)
    found = tracks(scene, frame, xy)

    def colours(shift_px):
        return torch.stack([read_at(frames[t], found.xy[:, t] + shift_px) for t in range(len(frames))], -1)

    at_query = colours(0.0).gather(2, frame.expand(3, -1)[..., None])
    exact, wrong = ((colours(shift) - at_query).abs().mean(0)[found.visibility] for shift in (0.0, 4.0))
    assert exact.median() < 0.005
    assert wrong.median() > 20 * exact.median()


def test_motion_blur_moves_nothing():
    scene = evenly_lit(a_scene(2))
    sharp, blurred = render(scene, pairs=4), render(dataclasses.replace(scene, shutter=0.5), pairs=4)
    for frame in range(1, 7):
        to_right = torch.roll(sharp[frame], 1, dims=-1)[..., 2:-2]
        to_left = torch.roll(sharp[frame], -1, dims=-1)[..., 2:-2]
        lean = (blurred[frame][..., 2:-2] - to_right).square().mean() / (
            blurred[frame][..., 2:-2] - to_left
        ).square().mean()
        assert 0.9 < lean < 1.1


@pytest.mark.parametrize("tilt", [None, (0.001, -0.0012)])
@pytest.mark.parametrize("waves", [True, False])
def test_every_pixel_shows_the_point_that_the_motion_puts_there(tilt, waves):
    layer = map_layer(tilt, waves)
    pictures = render(Scene((layer,), torch.ones(3, 1, 1), SIZE))
    for frame, picture in enumerate(pictures):
        exact = to_canonical(layer, pose_at(layer.pose, frame), pixel_grid(SIZE, CPU))
        shown = (picture[:2].movedim(0, -1) - 0.5) * 300
        assert (shown - exact).norm(dim=-1).max() < 0.05


@pytest.mark.parametrize(("seed", "index"), [(9, 7), (9, 53), (0, 1), (0, 2), (0, 3)])
def test_the_picture_shows_the_layer_that_the_truth_names(seed, index):
    """Every layer in one colour of its own: where a pixel has that colour alone, that layer is seen."""
    scene = random_scene(train_generator(seed, index), 3, SIZE, PATTERNS_ONLY)
    colours = torch.rand(len(scene.layers), 3, generator=torch.Generator().manual_seed(0))
    layers = tuple(
        dataclasses.replace(
            layer,
            texture=torch.cat(
                [colour[:, None, None].expand(-1, *layer.texture.shape[-2:]), layer.texture[3:]]
            ),
            shadow=0.0,
        )
        for layer, colour in zip(scene.layers, colours, strict=True)
    )
    plain = Scene(layers, torch.ones(3, 1, 1), scene.size)
    compared = 0
    for frame, picture in enumerate(render(plain)):
        truth, _ = top_layer(plain, frame, pixel_grid(SIZE, CPU))
        shown = (picture.movedim(0, -1)[..., None, :] - colours).abs().amax(-1)  # (H, W, layers)
        distance, layer = shown.min(-1)
        pure = distance < 1e-4
        assert torch.equal(layer[pure], truth[pure])
        compared += int(pure.sum())
    assert compared > 0.6 * 3 * SIZE[0] * SIZE[1]


def test_layers_that_change_order_hide_each_other_in_turn():
    bed = map_layer(None, waves=False)

    def square(colour, depth):
        texture = torch.full((4, 20, 20), colour)
        texture[3] = 1e3
        still = Pose(torch.tensor([[40.0, 40.0]] * 3), torch.eye(2).expand(3, 2, 2), torch.zeros(3, 0))
        return Layer(texture, still, torch.tensor(depth), torch.zeros(0, 2), torch.zeros(0, 2))

    scene = Scene(
        (bed, square(0.2, [1.0, 1.0, 3.0]), square(0.8, [2.0, 2.0, 2.0])), torch.ones(3, 1, 1), SIZE
    )
    pictures = render(scene)
    assert pictures[:, 2, 40, 40].tolist() == pytest.approx([0.2, 0.2, 0.8])
    found = tracks(scene, torch.tensor([0, 2]), torch.tensor([[40.0, 40.0], [40.0, 40.0]]))
    assert found.visibility.tolist() == [[True, True, False], [False, False, True]]
