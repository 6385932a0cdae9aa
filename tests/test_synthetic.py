"""Synthetic clips: the tracks and the flow that come with a clip are those of its pixels."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from t4g_tracker.coordinates import inside
from t4g_tracker.queries import read_queries
from t4g_tracker.synthetic.koi import koi_pond
from t4g_tracker.synthetic.layers import Layer, Pose, pose_at, sample, to_canonical, to_frame
from t4g_tracker.synthetic.make_demo import SEED, choose_queries
from t4g_tracker.synthetic.random_scenes import random_scene
from t4g_tracker.synthetic.rendering import render
from t4g_tracker.synthetic.scene import Scene, flow, pixel_grid, top_layer, tracks
from t4g_tracker.synthetic.textures import xy_half
from t4g_tracker.track_files import read_tracks_npz
from t4g_tracker.video import read_video

ASSETS = Path(__file__).parents[1] / "assets"
SIZE = (96, 128)


def a_scene(seed=0, frames=8):
    return random_scene(torch.Generator().manual_seed(seed), frames, SIZE)


def evenly_lit(scene):
    """The scene without what changes a point's colour: light, grain, motion blur, shadows."""
    layers = tuple(dataclasses.replace(layer, shadow=0.0) for layer in scene.layers)
    return Scene(layers, torch.ones_like(scene.light), scene.size)


def scattered(count, size, seed=1):
    drawn = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.tensor([size[1] - 1.0, size[0] - 1.0])


def read_at(picture, xy):
    """Colours (3, N) of a picture (3, H, W) at positions (N, 2)."""
    return sample(picture, xy - xy_half(tuple(picture.shape[-2:]), picture.device))


def square_layer(side, centres, depth, colour=0.5):
    """A plain square that moves without turning: its middle is at ``centres`` (T, 2)."""
    centres = torch.tensor(centres, dtype=torch.float32)
    frames = len(centres)
    half = (side - 1) / 2
    line = half + 0.5 - torch.linspace(-half - 4, half + 4, side + 8).abs()
    margin = torch.minimum(line[:, None], line[None, :])
    texture = torch.cat([torch.full((3, *margin.shape), colour), margin[None]])
    pose = Pose(centres, torch.eye(2).expand(frames, 2, 2), torch.zeros(frames, 0))
    return Layer(texture, pose, torch.full((frames,), depth), torch.zeros(0, 2), torch.zeros(0, 2))


def a_passing_square():
    """A bed, a square of 9 px standing at (20, 10), and one of 13 px that passes in front of it."""
    bed = square_layer(200, [(20.0, 10.0)] * 5, 9.0)
    still = square_layer(9, [(20.0, 10.0)] * 5, 5.0)
    passing = square_layer(13, [(0.0, 10.0), (10.0, 10.0), (20.0, 10.0), (30.0, 10.0), (40.0, 10.0)], 1.0)
    return Scene((bed, still, passing), torch.ones(5, 1, 1), (21, 41))


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


def test_a_point_is_hidden_exactly_while_a_nearer_layer_covers_it():
    found = tracks(a_passing_square(), torch.tensor([0, 0]), torch.tensor([[20.0, 10.0], [25.0, 10.0]]))
    on_square, on_bed = found.visibility.tolist()
    assert on_square == [True, True, False, True, True]
    assert on_bed == [True, True, False, False, True]  # the edges pass it at 26.5 and 23.5


def test_a_point_outside_the_frame_is_hidden_and_its_position_still_known():
    found = tracks(a_passing_square(), torch.tensor([1]), torch.tensor([[12.0, 10.0]]))
    assert found.xy[0, :, 0].tolist() == [2.0, 12.0, 22.0, 32.0, 42.0]
    assert found.visibility[0].tolist() == [True, True, True, True, False]


def test_flow_is_the_difference_of_tracks_and_valid_where_they_are_seen():
    scene = a_scene(3)
    moved, valid = flow(scene, 2, 6)
    rows, columns = torch.tensor([5, 40, 77, 90]), torch.tensor([100, 64, 20, 3])
    found = tracks(scene, torch.full((4,), 2), torch.stack([columns, rows], -1).float())
    torch.testing.assert_close(moved[:, rows, columns].T, found.xy[:, 6] - found.xy[:, 2], atol=0.01, rtol=0)
    assert valid[rows, columns].tolist() == found.visibility[:, 6].tolist()


def test_forward_then_backward_flow_returns_wherever_both_are_valid():
    scene = a_scene(5)
    there, seen = flow(scene, 1, 4)
    back, _ = flow(scene, 4, 1)
    start = pixel_grid(SIZE, torch.device("cpu"))
    end = start + there.movedim(0, -1)
    sharp = end.round()  # exact at pixel centres, so look at ends that are near one
    near = seen & ((end - sharp).norm(dim=-1) < 0.1) & inside(sharp, (SIZE[0] - 1, SIZE[1] - 1))
    column, row = sharp[near].long().unbind(-1)
    missed = (end[near] + back[:, row, column].T - start[near]).norm(dim=-1)
    assert near.sum() > 50
    assert missed.median() < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_the_background_covers_every_frame(seed):
    scene = a_scene(seed, frames=24)
    bed = scene.layers[0]
    half = xy_half(tuple(bed.texture.shape[-2:]), bed.texture.device)
    for frame in range(24):
        seen = to_canonical(bed, pose_at(bed.pose, frame), pixel_grid(SIZE, half.device))
        assert (seen.abs() <= half).all()


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


def test_the_same_generator_draws_the_same_clip_and_another_does_not():
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


def test_the_bundled_files_belong_to_each_other():
    video = read_video(ASSETS / "koi.mp4")
    queries = read_queries(ASSETS / "koi.queries.json", video)
    exact, stored, size, fps = read_tracks_npz(ASSETS / "koi.tracks.npz")
    assert (video.frame_count, video.size, video.fps) == (exact.xy.shape[1], size, fps)
    assert queries.names == stored.names
    torch.testing.assert_close(queries.xy, stored.xy)
    at_query = exact.xy[torch.arange(len(queries)), queries.frame]
    torch.testing.assert_close(at_query, queries.xy, atol=0.01, rtol=0)
    assert exact.visibility[torch.arange(len(queries)), queries.frame].all()
    assert sum(file.stat().st_size for file in ASSETS.glob("koi.*")) < 2_000_000
    assert len(json.loads((ASSETS / "koi.queries.json").read_text())["queries"]) == len(queries)


def test_the_bundled_tracks_are_those_of_the_scene():
    queries, exact = choose_queries(koi_pond(torch.Generator().manual_seed(SEED)))
    stored, stored_queries, _, _ = read_tracks_npz(ASSETS / "koi.tracks.npz")
    assert queries.names == stored_queries.names
    torch.testing.assert_close(exact.xy, stored.xy, atol=0.01, rtol=0)
    assert torch.equal(exact.visibility, stored.visibility)


def brightness(video, xy):
    """(N, T) mean over 3x3 pixels around the positions (N, T, 2)."""
    steps = torch.arange(-1.0, 2.0)
    around = torch.cartesian_prod(steps, steps)
    grey = torch.from_numpy(video.frames).float().mean(-1)[:, None]
    found = [read_at(grey[t], (xy[:, t, None] + around).reshape(-1, 2)) for t in range(len(grey))]
    return torch.stack(found).reshape(len(grey), len(xy), 9).mean(-1).T


def test_the_bundled_clip_shows_the_same_brightness_along_its_tracks():
    video = read_video(ASSETS / "koi.mp4")
    exact, queries, _, _ = read_tracks_npz(ASSETS / "koi.tracks.npz")
    start = queries.xy[:, None].expand_as(exact.xy)
    reference = brightness(video, start).gather(1, queries.frame[:, None]).expand_as(exact.visibility)

    def agreement(xy):
        pair = [brightness(video, xy)[exact.visibility], reference[exact.visibility]]
        return torch.corrcoef(torch.stack(pair))[0, 1]

    assert agreement(exact.xy) > 0.85  # light, shadows and grain take the rest
    assert agreement(exact.xy + 5) < 0.6
    assert agreement(start) < 0.6


def test_top_layer_names_what_is_seen():
    scene = a_passing_square()
    index, canonical = top_layer(scene, 1, torch.tensor([[10.0, 10.0], [22.0, 9.0], [38.0, 2.0]]))
    assert index.tolist() == [2, 1, 0]
    assert canonical.tolist() == [[0.0, 0.0], [2.0, -1.0], [18.0, -8.0]]
