"""Training clips: what is drawn for networks to learn from is exact, varied and kept from validation."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.commands.make_synthetic_val import ValConfig, make_val
from t4g_tracker.datasets.frames_and_tracks import FolderClips
from t4g_tracker.errors import TrackerError
from t4g_tracker.synthetic import photographs
from t4g_tracker.synthetic.camera_losses import lose_quality
from t4g_tracker.synthetic.clips import draw_clip, draw_pair, train_generator, val_generator, val_pairs
from t4g_tracker.synthetic.layers import Layer, Pose, pose_at, sample, to_canonical, to_frame
from t4g_tracker.synthetic.random_motion import smooth_path
from t4g_tracker.synthetic.random_scenes import random_scene
from t4g_tracker.synthetic.rendering import render
from t4g_tracker.synthetic.scene import Scene, flow, pixel_grid, top_layer, tracks
from t4g_tracker.synthetic.surfaces import PATTERNS_ONLY
from t4g_tracker.synthetic.textures import canonical_grid, xy_half

SIZE = (96, 128)
CPU = torch.device("cpu")


def a_clip(seed, points=64):
    return draw_clip(train_generator(0, seed), 6, SIZE, points)


def read_at(picture, xy):
    """(C, N) of a picture (C, H, W) at positions (N, 2)."""
    return sample(picture, xy - xy_half(tuple(picture.shape[-2:]), CPU))


def map_layer(tilt, waves=True):
    """A sheet whose red and green are its own coordinates, slanted, bent and turning."""
    frames, size = 3, (300, 300)
    grid = canonical_grid(size, CPU).movedim(-1, 0)
    texture = torch.cat([0.5 + grid / 300, torch.zeros(1, *size), torch.full((1, *size), 1e3)])
    angle = torch.linspace(0.1, 0.5, frames)
    linear = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], -1)
    wave = torch.tensor([[0.05, 0.02], [-0.01, 0.04]])[: 2 * waves]
    push = torch.tensor([[1.0, 4.0], [3.0, 1.0]])[: 2 * waves]
    pose = Pose(
        torch.tensor([[60.0, 45.0]]).expand(frames, 2),
        1.1 * linear.reshape(frames, 2, 2),
        torch.linspace(0, 1, frames)[:, None] * torch.ones(2 * waves),
        None if tilt is None else torch.tensor([tilt]).expand(frames, 2),
    )
    return Layer(texture, pose, torch.full((frames,), 9.0), wave, push)


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


@pytest.mark.parametrize("tilt", [None, (0.001, -0.0012)])
@pytest.mark.parametrize("waves", [True, False])
def test_every_pixel_shows_the_point_that_the_motion_puts_there(tilt, waves):
    layer = map_layer(tilt, waves)
    pictures = render(Scene((layer,), torch.ones(3, 1, 1), SIZE))
    for frame, picture in enumerate(pictures):
        exact = to_canonical(layer, pose_at(layer.pose, frame), pixel_grid(SIZE, CPU))
        shown = (picture[:2].movedim(0, -1) - 0.5) * 300
        assert (shown - exact).norm(dim=-1).max() < 0.05


@pytest.mark.parametrize("seed", range(6))
def test_forward_then_backward_returns_to_the_start(seed):
    scene = random_scene(train_generator(2, seed), 4, SIZE)
    there, seen = flow(scene, 0, 3)
    start = pixel_grid(SIZE, CPU)[seen]
    end = start + there.movedim(0, -1)[seen]
    assert seen.float().mean() > 0.05
    back = tracks(scene, torch.full((len(end),), 3), end)
    missed = (back.xy[:, 0] - start).norm(dim=-1)
    assert (missed < 0.02).float().mean() > 0.999  # the rest lie on an outline to the last bit
    assert back.visibility[missed < 0.02, 0].all()


@pytest.mark.parametrize("seed", [1, 2, 8])  # pairs that move by more than 2 px
def test_the_flow_of_a_pair_brings_each_pixel_to_its_own_colour(seed):
    pair = draw_pair(train_generator(3, seed), SIZE)
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


def test_flow_is_known_where_a_point_is_hidden_or_outside():
    pair = draw_pair(train_generator(3, 2), SIZE)
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


def test_the_same_generator_state_gives_the_same_clip_and_pair():
    first, again, other = a_clip(5), a_clip(5), a_clip(6)
    assert torch.equal(first.frames, again.frames)
    assert torch.equal(first.xy, again.xy)
    assert not torch.equal(first.frames, other.frames)
    one, two = (draw_pair(train_generator(0, 1), SIZE) for _ in range(2))
    assert torch.equal(one.second, two.second)
    assert torch.equal(one.forward, two.forward)


def test_no_training_has_a_seed_of_validation():
    training = {train_generator(seed, index).initial_seed() for seed in range(40) for index in range(500)}
    validation = {val_generator(index).initial_seed() for index in range(2000)}
    assert len(training) == 40 * 500
    assert len(validation) == 2000
    assert not training & validation
    pair, drawn = val_pairs(1, SIZE)[0], draw_pair(val_generator(0), SIZE)
    assert torch.equal(pair.first, drawn.first)


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


def test_a_smooth_path_keeps_its_pace_and_its_limit():
    generator = torch.Generator().manual_seed(0)
    for fastest in (0.05, 1.0, 30.0):
        path = smooth_path(generator, 24, 2, fastest, 20.0)
        step = (path[1:] - path[:-1]).norm(dim=-1).max()
        assert path.abs().max() <= 20.01
        assert step == pytest.approx(fastest, rel=1e-3) or path.abs().max() == pytest.approx(20, rel=1e-3)


def test_losing_quality_moves_nothing():
    drawn = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    picture = torch.nn.functional.interpolate(
        drawn, size=SIZE, mode="bilinear"
    )  # JPEG blocks fit in both ways
    for seed in range(8):
        there, mirrored = (
            lose_quality(torch.Generator().manual_seed(seed), frames).float()
            for frames in (picture, picture.flip(-1))
        )
        straight, shifted = ((there.roll(by, -1) - mirrored.flip(-1)).abs().mean() for by in (0, 1))
        assert straight < 0.6 * shifted


def test_every_photograph_has_its_licence_listed_in_the_module():
    rows = {line.split()[0]: line for line in photographs.__doc__.splitlines() if line[:1].isalpha()}
    for name in photographs.NAMES:
        assert any(free in rows[name] for free in ("CC0", "public domain", "no known copyright"))
        assert photographs.photograph(name, CPU).shape[0] == 3


def test_without_scikit_image_one_is_told_what_to_install(monkeypatch):
    photographs.photograph.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(TrackerError, match=r"pip install -e '\.\[train\]'"):
        photographs.photo_texture(torch.Generator().manual_seed(0), (8, 8))
    clip = draw_clip(torch.Generator().manual_seed(0), 2, (32, 32), 4, PATTERNS_ONLY)
    assert clip.frames.shape == (2, 3, 32, 32)


def test_bench_reads_what_make_val_writes(tmp_path):
    make_val(tmp_path, ValConfig(clips=2, frames=2, size=(64, 96), points=9))
    assert FolderClips(tmp_path).names() == ["synthetic-00", "synthetic-01"]
    clip, drawn = FolderClips(tmp_path).load("synthetic-01"), draw_clip(val_generator(1), 2, (64, 96), 9)
    torch.testing.assert_close(clip.xy, drawn.xy, atol=1e-3, rtol=0)
    assert torch.equal(clip.visibility, drawn.visibility)
    written = np.moveaxis(clip.video.frames.astype(float), -1, 1)
    assert np.abs(written - drawn.frames.numpy()).mean() < 3


def test_a_size_that_is_none_is_refused_by_name(tmp_path, capsys):
    assert t4g(["make-synthetic-val", str(tmp_path), "--clips", "0"]) == 2
    assert "clips must be at least 1" in capsys.readouterr().err
