"""Small synthetic scenes whose motion is known."""

from __future__ import annotations

import dataclasses

import torch

from t4g_tracker.synthetic.layers import Layer, Pose, sample
from t4g_tracker.synthetic.random_scenes import random_scene
from t4g_tracker.synthetic.scene import Scene
from t4g_tracker.synthetic.textures import canonical_grid, xy_half

SIZE = (96, 128)
CPU = torch.device("cpu")


def a_scene(seed=0, frames=8):
    return random_scene(torch.Generator().manual_seed(seed), frames, SIZE)


def evenly_lit(scene):
    """The scene without what changes a point's colour: light, grain, motion blur, shadows."""
    layers = tuple(dataclasses.replace(layer, shadow=0.0) for layer in scene.layers)
    return Scene(layers, torch.ones_like(scene.light), scene.size)


def scattered(count, size, seed=1):
    """(count, 2) random positions inside a frame of ``size``."""
    share = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    return share * torch.tensor([size[1] - 1.0, size[0] - 1.0])


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
