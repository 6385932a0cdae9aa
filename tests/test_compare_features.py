"""``t4g compare-features``: the same points with the frozen features of several extractors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from t4g_tracker.cli import main
from t4g_tracker.features.bundled import TRACK4GEN_MINI
from t4g_tracker.metrics import score
from t4g_tracker.outputs import read_tracks_npz
from t4g_tracker.video import read_video
from tests.tiny_models import save_tiny_svd

ASSETS = TRACK4GEN_MINI.parents[1]
SIZE = ["working_size.height=64", "working_size.width=128"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_svd(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def compared(model, tmp_path_factory):
    """Patches and a random diffusion model, on the bundled clip, with its truth."""
    folder = tmp_path_factory.mktemp("compared")
    out = folder / "out"
    code = main(
        [
            "compare-features",
            *("--video", str(ASSETS / "koi.mp4"), "--queries", str(ASSETS / "koi.queries.json")),
            *("--gt", str(ASSETS / "koi.tracks.npz"), "--features", "patch", f"svd={model}"),
            *("--out", str(out), "--cache", str(folder / "cache"), "--device", "cpu", "--quiet"),
            *("--set", *SIZE, "tracking.polish=false"),
        ]
    )
    assert code == 0
    return out


def test_scores_in_the_table_are_those_of_the_written_tracks(compared):
    video = read_video(ASSETS / "koi.mp4")
    truth, queries, _, _ = read_tracks_npz(ASSETS / "koi.tracks.npz")
    rows = {row["features"]: row for row in json.loads((compared / "compare.json").read_text())["rows"]}
    for name in ("patch", "svd"):
        tracks, asked, _, _ = read_tracks_npz(compared / f"{name}.tracks.npz")
        assert torch.equal(asked.frame, queries.frame)
        scores = score(tracks, truth.xy, truth.visibility, queries.frame, video.size, "strided")
        assert rows[name]["delta_avg"] == pytest.approx(scores.delta_avg, abs=0.05)
    table = (compared / "compare.md").read_text()
    assert f"{rows['patch']['delta_avg']:.1f}" in table


def test_extractors_that_disagree_have_different_rows_in_the_picture(compared):
    picture = np.asarray(Image.open(compared / "compare.png").convert("RGB")).astype(int)
    first, second = np.array_split(picture[len(picture) // 3 :], 2)
    height = min(len(first), len(second))
    assert np.abs(first[:height] - second[:height]).mean() > 1


def test_the_video_has_a_frame_for_each_of_the_clips(compared):
    shown = read_video(compared / "compare.mp4")
    assert shown.frame_count == read_video(ASSETS / "koi.mp4").frame_count
    assert all(side % 2 == 0 for side in shown.size)


def test_a_missing_model_is_refused_before_anything_is_written(tmp_path, capsys):
    out = tmp_path / "out"
    code = main(
        [
            "compare-features",
            *("--video", str(ASSETS / "koi.mp4"), "--grid", "3", "--out", str(out)),
            *("--features", "patch", f"svd={tmp_path / 'nothing'}", "--cache", str(tmp_path / "cache")),
        ]
    )
    assert code == 2
    said = capsys.readouterr().err
    assert "svd" in said
    assert "nothing" in said
    assert not out.exists()


@pytest.mark.parametrize("wrong", [["patch", "patch"], ["pach"], ["patch=somewhere"]])
def test_features_that_make_no_sense_are_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare-features", "--video", "x.mp4", "--grid", "3", "--features", *wrong])
    assert stop.value.code == 2
    assert "--features" in capsys.readouterr().err
