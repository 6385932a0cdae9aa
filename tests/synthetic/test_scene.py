"""Tracks, visibility and flow of a scene agree with its layers and with each other."""

from __future__ import annotations

import pytest
import torch
from tiny_scenes import CPU, SIZE, a_passing_square, a_scene

from t4g_tracker.coordinates import inside
from t4g_tracker.synthetic.clips import train_generator
from t4g_tracker.synthetic.random_scenes import random_scene
from t4g_tracker.synthetic.scene import flow, pixel_grid, top_layer, tracks


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


def test_top_layer_names_what_is_seen():
    scene = a_passing_square()
    index, canonical = top_layer(scene, 1, torch.tensor([[10.0, 10.0], [22.0, 9.0], [38.0, 2.0]]))
    assert index.tolist() == [2, 1, 0]
    assert canonical.tolist() == [[0.0, 0.0], [2.0, -1.0], [18.0, -8.0]]
