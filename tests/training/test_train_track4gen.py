"""``t4g train-track4gen``: what it writes is what the extractor reads; what contradicts is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_datasets import dots
from tiny_models import save_tiny_svd
from tiny_runs import sliding, train_tiny

from t4g_tracker.__main__ import main
from t4g_tracker.config import read_settings
from t4g_tracker.features.extractor import extract_features
from t4g_tracker.features.not_here import FIRST_SIMILARITY
from t4g_tracker.features.settings import DiffusionConfig, FeaturesConfig
from t4g_tracker.visualize.encoding import write_video


@pytest.mark.parametrize(
    "variant",
    [
        (),
        ("objective.refiner=false",),
        ("objective.correspondence=0",),
        ("objective.loss=huber", "objective.trained=temporal", "objective.refiner_start=identity"),
        ("objective.feedback=true", "objective.hidden=0.25"),
    ],
    ids=" ".join,
)
def test_a_trained_folder_is_read_as_the_command_says(tmp_path, capsys, variant):
    save_tiny_svd(tmp_path / "svd")
    out = tmp_path / "out"
    assert train_tiny("train-track4gen", out, "--from", tmp_path / "svd", settings=variant) == 0
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert {"denoising", "delta_avg", "denoise@1"} <= rows[-1].keys()
    advised = capsys.readouterr().out.split("--set ")[1].split()
    config = read_settings(FeaturesConfig(), None, [setting.removeprefix("features.") for setting in advised])
    frames = dots(5, (64, 64)).frames
    trained = extract_features(frames, config, torch.device("cpu"), seed=0)
    assert str(tmp_path) not in "".join(path.read_text() for path in out.rglob("*.json"))
    plain = FeaturesConfig(extractor="svd", diffusion=DiffusionConfig(model=str(tmp_path / "svd")))
    before = extract_features(frames, plain, torch.device("cpu"), seed=0)
    assert trained.shape == before.shape
    assert not torch.allclose(trained.values, before.values)
    assert (trained.values.min() >= 0) == (out / "refiner").is_dir()  # a refiner ends in a ReLU
    for part, setting in (("feedback", "objective.feedback=true"), ("not_here", "objective.hidden=0.25")):
        assert (out / part).is_dir() == (setting in variant)


def test_a_checkpoint_of_another_starting_point_is_refused(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd", seed=0)
    assert train_tiny("train-track4gen", tmp_path / "out", "--from", tmp_path / "svd") == 0
    save_tiny_svd(tmp_path / "other", seed=1)
    shutil.rmtree(tmp_path / "svd" / "unet")
    shutil.copytree(tmp_path / "other" / "unet", tmp_path / "svd" / "unet")
    assert train_tiny("train-track4gen", tmp_path / "out", "--from", tmp_path / "svd") == 2
    assert "was made with start=" in capsys.readouterr().err


def test_clips_that_the_disk_cannot_hold_are_refused_before_any_is_generated(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd")
    where = ["--from", tmp_path / "svd", "--keep-clips", tmp_path / "clips"]
    assert train_tiny("train-track4gen", tmp_path / "out", *where, settings=("clips.count=1000000000",)) == 2
    assert "set clips.count lower" in capsys.readouterr().err


def test_training_into_the_folder_that_it_starts_from_is_refused(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd")
    assert train_tiny("train-track4gen", tmp_path / "svd", "--from", tmp_path / "svd") == 2
    assert "is the folder of --from; give another one" in capsys.readouterr().err


def test_cached_clips_beside_real_videos_are_refused(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd")
    where = ["--from", tmp_path / "svd", "--videos", tmp_path, "--keep-clips", tmp_path]
    assert train_tiny("train-track4gen", tmp_path / "out", *where) == 2
    assert "--keep-clips: " in capsys.readouterr().err


def test_real_videos_are_trained_on_by_command(tmp_path):
    save_tiny_svd(tmp_path / "svd")
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "slide.mp4", sliding(9).frames, 24.0, 20)
    code = train_tiny(
        "train-track4gen", tmp_path / "out", "--from", tmp_path / "svd", "--videos", tmp_path / "videos"
    )
    assert code == 0
    assert len(list((tmp_path / "out" / "clips").glob("slide.mp4-*-000000.npz"))) == 1


def test_from_a_folder_without_weights_is_refused(tmp_path, capsys):
    (tmp_path / "vae").mkdir()
    code = main(["train-track4gen", "--from", str(tmp_path), "--out", str(tmp_path / "out"), "--quiet"])
    assert code == 2
    assert "train-autoencoder" in capsys.readouterr().err


def test_feedback_and_the_class_of_hidden_points_are_trained_further(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd")
    parts = ("objective.feedback=true", "objective.hidden=0.25")
    assert train_tiny("train-track4gen", tmp_path / "one", "--from", tmp_path / "svd", settings=parts) == 0
    still = (*parts, "trainer.learning_rate=1e-9")
    assert train_tiny("train-track4gen", tmp_path / "two", "--from", tmp_path / "one", settings=still) == 0
    for part in ("feedback", "not_here"):
        (one,), (two,) = ((tmp_path / name / part).glob("*.safetensors") for name in ("one", "two"))
        for name, value in load_file(one).items():
            torch.testing.assert_close(load_file(two)[name], value, atol=1e-4, rtol=1e-3)
    assert load_file(one)["similarity"] != FIRST_SIMILARITY  # it was trained
    assert train_tiny("train-track4gen", tmp_path / "three", "--from", tmp_path / "one") == 2
    assert "set objective.feedback=true" in capsys.readouterr().err


def test_hidden_points_of_real_videos_are_unknown(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd")
    where = ["--from", tmp_path / "svd", "--videos", tmp_path]
    assert train_tiny("train-track4gen", tmp_path / "out", *where, settings=("objective.hidden=1",)) == 2
    assert "objective.hidden: " in capsys.readouterr().err
