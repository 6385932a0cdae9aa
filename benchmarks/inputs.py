"""Synthetic clips and query points to measure on, made once and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cases import Size
from t4g_tracker.storage.files import atomic_write
from t4g_tracker.synthetic.clips import CLIPS_VERSION, generate_clip, val_generator
from t4g_tracker.visualize.encoding import write_video

CLIP = 0  # number of the synthetic clip: textures, several objects, a moving camera
MARGIN_PX = 8  # between points and the frame's border


def clip_file(folder: Path, frames: int, size: Size) -> Path:
    """Make a clip of at least ``frames`` frames of (H, W), or find it in ``folder``; returns the mp4 file."""
    height, width = size
    kept = sorted(
        (int(path.stem.split("-")[-1]), path)
        for path in folder.glob(f"clip-v{CLIPS_VERSION}-{height}x{width}-*.mp4")
    )
    for count, path in kept:
        if count >= frames:
            return path
    path = folder / f"clip-v{CLIPS_VERSION}-{height}x{width}-{frames}.mp4"
    clip = generate_clip(val_generator(CLIP), frames, size, points=1)
    write_video(path, clip.frames.movedim(1, -1).numpy(), 24.0)
    return path


def points_file(folder: Path, points: int, size: Size) -> Path:
    """Write query points spread evenly at random over frame 0 of (H, W), the same in every run."""
    path = folder / f"points-{size[0]}x{size[1]}-{points}.npy"
    height, width = size
    spread = np.random.default_rng(0).uniform(MARGIN_PX, [width - MARGIN_PX, height - MARGIN_PX], (points, 2))
    with atomic_write(path) as temporary:
        np.save(temporary, np.column_stack([np.zeros(points), spread]))
    return path
