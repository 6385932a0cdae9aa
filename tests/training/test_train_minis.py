"""``t4g train-minis``: four models from one beginning, on as many steps, resumed part by part."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from t4g_tracker.__main__ import main
from t4g_tracker.commands.generate_arguments import parse_generate
from t4g_tracker.commands.train_minis import MODELS, SHARES
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.diffusion_folder import check_folder
from t4g_tracker.features.diffusion_weights import load_model
from t4g_tracker.training.loop.frozen import weights_digest
from t4g_tracker.training.track4gen.model_folder import load_autoencoder
from t4g_tracker.training.track4gen.settings import MinisTraining

CLIPS = [
    "count=2",
    "frames=4",
    "height=64",
    "width=64",
    "crop_height=64",
    "crop_width=64",
    "segments=1",
    "points=32",
    "validation=1",
]
TINY = [f"{part}.clips.{item}" for part in ("autoencoder", "pretraining", "finetuning") for item in CLIPS]
TINY += ["autoencoder.trainer.steps=1", "pretraining.trainer.steps=1", "finetuning.trainer.steps=2"]
TINY += [f"{part}.trainer.workers=0" for part in ("autoencoder", "pretraining", "finetuning")]


def train_minis(out, *more: str, settings: tuple[str, ...] = ()) -> int:
    where = ["--out", str(out), "--device", "cpu", "--quiet", *more]
    return main(["train-minis", *where, "--set", *TINY, *settings])


def test_shares_use_up_the_budget():
    assert sum(SHARES.values()) == pytest.approx(1)


def test_four_models_come_from_one_and_generate_and_a_finished_call_trains_nothing(tmp_path, capsys):
    out = tmp_path / "my minis"
    assert train_minis(out) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[:2] == ["t4g", "generate"]
    choices = parse_generate(command[2:]).models
    assert [(choice.name, choice.model) for choice in choices] == [(name, str(out / name)) for name in MODELS]
    record = json.loads((out / "minis.json").read_text())
    assert list(record["parts"]) == list(SHARES)
    assert [taken["steps"] for taken in record["parts"].values()] == [1, 1, 1, 2, 2, 2]
    assert {taken["batch"] for taken in record["parts"].values()} == {2}
    made = {
        name: json.loads(torch.load(out / name / "checkpoint.pt", weights_only=True)["identity"])
        for name in MODELS
    }
    matching = {name for name in MODELS if made[name]["objective"]["correspondence"]}
    assert matching == {"norefiner", "track4gen"}
    assert len({made[name]["start"] for name in ("finetuned", "norefiner", "track4gen")}) == 1
    assert {name for name in MODELS if (out / name / "refiner").is_dir()} == {"track4gen"}

    # All load and differ; generation works with each, in the layout of any other model.
    digests = set()
    for name in MODELS:
        check_folder(out / name, 2, need_refiner=name == "track4gen")
        pipeline = load_model(out / name, torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        digests.add(weights_digest(pipeline.unet))
        video = pipeline(
            Image.new("RGB", (64, 64), "red"), 64, 64, 4, num_inference_steps=1, output_type="pt"
        ).frames[0]
        assert video.shape == (4, 3, 64, 64)
        assert video.isfinite().all()
    assert len(digests) == 4

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert train_minis(out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before

    # A part that is missing is trained again, from the same model, and comes out the same.
    del record["parts"]["finetuned"]
    (out / "minis.json").write_text(json.dumps(record))
    digest = weights_digest(load_model(out / "finetuned", torch.float32).unet)
    shutil.rmtree(out / "finetuned")
    assert train_minis(out) == 0
    assert weights_digest(load_model(out / "finetuned", torch.float32).unet) == digest
    capsys.readouterr()
    assert train_minis(out, settings=("finetuning.trainer.learning_rate=0.1",)) == 2
    assert "learning_rate=0.0002 and not 0.1" in capsys.readouterr().err


def test_an_encoder_that_is_given_is_taken_as_it_is(tmp_path, capsys):
    settings = [item.removeprefix("autoencoder.") for item in TINY if item.startswith("autoencoder.")]
    for out in (tmp_path / "first", tmp_path / "second"):
        argv = ["train-autoencoder", "--part", "encoder", "--out", str(out), "--device", "cpu", "--quiet"]
        assert main([*argv, "--seed", str(len(out.name)), "--set", *settings]) == 0
    given = load_autoencoder(tmp_path / "first")
    out = tmp_path / "minis"
    assert train_minis(out, "--encoder-of", str(tmp_path / "first")) == 0
    for name in MODELS:
        vae = load_model(out / name, torch.float32).vae
        assert weights_digest(vae.encoder) == weights_digest(given.encoder)
        assert vae.config.scaling_factor == given.config.scaling_factor
    assert weights_digest(vae.decoder) != weights_digest(given.decoder)
    assert not (out / "autoencoder" / "encoder").exists()
    capsys.readouterr()
    assert train_minis(out, "--encoder-of", str(tmp_path / "second")) == 2
    assert "encoder" in capsys.readouterr().err
    assert train_minis(tmp_path / "third", "--encoder-of", str(tmp_path)) == 2
    assert "holds no autoencoder" in capsys.readouterr().err


def test_a_first_model_that_matches_points_and_a_track4gen_that_does_not_are_refused():
    config = MinisTraining()
    with pytest.raises(ConfigError, match=r"objective\.correspondence must be 0"):
        MinisTraining(pretraining=config.finetuning)
    with pytest.raises(ConfigError, match=r"objective\.feedback=false"):
        replace(config.pretraining.objective, feedback=True)
    with pytest.raises(ConfigError, match="must have a refiner"):
        MinisTraining(finetuning=config.pretraining)
