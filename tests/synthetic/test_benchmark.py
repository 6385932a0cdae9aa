"""The project's own benchmark is what its generator says, and refuses impossible sizes."""

from __future__ import annotations

import numpy as np
import torch

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.datasets.frames_and_tracks import FolderClips
from t4g_tracker.synthetic.benchmark import make_val
from t4g_tracker.synthetic.clips import generate_clip, val_generator
from t4g_tracker.synthetic.settings import ValConfig


def test_bench_reads_what_make_val_writes(tmp_path):
    make_val(tmp_path, ValConfig(clips=2, frames=2, size=(64, 96), points=9))
    assert FolderClips(tmp_path).names() == ["synthetic-00", "synthetic-01"]
    clip = FolderClips(tmp_path).load("synthetic-01")
    expected = generate_clip(val_generator(1), 2, (64, 96), 9)
    torch.testing.assert_close(clip.truth.xy, expected.xy, atol=1e-3, rtol=0)
    assert torch.equal(clip.truth.visibility, expected.visibility)
    written = np.moveaxis(clip.video.frames.astype(float), -1, 1)
    assert np.abs(written - expected.frames.numpy()).mean() < 3


def test_a_clip_is_the_same_whichever_is_the_first(tmp_path):
    size = {"frames": 2, "size": (64, 96), "points": 9}
    make_val(tmp_path / "two", ValConfig(clips=2, **size))
    make_val(tmp_path / "other", ValConfig(clips=1, first=1, **size))
    (name,) = FolderClips(tmp_path / "other").names()
    assert name == "synthetic-01"
    one, other = (FolderClips(tmp_path / folder).load(name) for folder in ("two", "other"))
    assert np.array_equal(one.video.frames, other.video.frames)
    assert torch.equal(one.truth.xy, other.truth.xy)


def test_an_impossible_size_is_refused_by_name(tmp_path, capsys):
    assert t4g(["make-synthetic-val", str(tmp_path), "--clips", "0"]) == 2
    assert "clips must be from 1 to" in capsys.readouterr().err
