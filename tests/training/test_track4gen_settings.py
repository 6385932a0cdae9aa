"""Settings that cannot be trained with are refused."""

from __future__ import annotations

import re

import pytest
from tiny_models import save_tiny_svd
from tiny_runs import train_tiny

from t4g_tracker.errors import ConfigError
from t4g_tracker.training.track4gen.settings import ClipsConfig


def test_stretches_longer_than_clips_are_refused():
    with pytest.raises(ConfigError, match=r"clips\.segment_frames must be at most clips\.frames, 4, got 8"):
        ClipsConfig(frames=4, segment_frames=8)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("clips.frames=2", "clips.frames must be from 3 to"),
        ("clips.segment_frames=1", "segment_frames must be 0 or at least 2"),
        ("clips.crop_height=96", "must be at most height and width"),
        ("objective.low_noise_share=2", "objective.low_noise_share must be from 0 to 1"),
        ("objective.temperature=0", "objective.temperature must be from 0.001 to"),
        ("objective.block=7", "--from .*up_blocks|--from .*block"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(tmp_path, capsys, setting, message):
    save_tiny_svd(tmp_path / "svd")
    out = tmp_path / "out"
    assert train_tiny("train-track4gen", out, "--from", tmp_path / "svd", settings=(setting,)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (out / "checkpoint.pt").exists()
