"""Trainings of a few steps, and a video to train on."""

from __future__ import annotations

import torch

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.datatypes import Video

TINY_TRAINING = [
    "trainer.steps=4",
    "trainer.validate_every=2",
    "trainer.workers=0",
    "clips.count=2",
    "clips.frames=6",
    "clips.height=64",
    "clips.width=64",
    "clips.crop_height=64",
    "clips.crop_width=64",
    "clips.points=32",
    "clips.validation=1",
]


def train_tiny(command: str, out, *arguments: str, settings: tuple[str, ...] = ()) -> int:
    """Run a training command for four steps; returns its exit code."""
    where = ["--out", str(out), "--device", "cpu", "--quiet"]
    return t4g([command, *where, *map(str, arguments), "--set", *TINY_TRAINING, *settings])


def sliding(frames: int = 8, step: int = 3) -> Video:
    """A texture that slides to the left by ``step`` pixels a frame."""
    coarse = torch.rand(1, 3, 20, 40, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.interpolate(coarse, (160, 320), mode="bicubic")[0]
    pictures = [(texture[:, :, step * t : step * t + 240].clamp(0, 1) * 255).byte() for t in range(frames)]
    return Video(torch.stack(pictures).permute(0, 2, 3, 1).numpy(), 24.0, "slide", "slide")
