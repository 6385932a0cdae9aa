"""t4g weights: says what is there, fetches what is not, and one sentence when it cannot."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from tiny_published import save_tiny_dinov2, save_tiny_mini, save_tiny_zeroscope

from t4g_tracker import bundled
from t4g_tracker.commands import weights
from t4g_tracker.features import model_files
from t4g_tracker.features.diffusion_folder import has_feedback
from t4g_tracker.features.feedback import Feedback
from t4g_tracker.features.layouts import DINOV2, ZEROSCOPE
from t4g_tracker.features.not_here import NotHere
from t4g_tracker.generation.models import find_models
from t4g_tracker.generation.settings import GenerationConfig, ModelChoice

NAMES = ["track4gen-mini", "generating-mini", "raft-mini", "svd", "track4gen", "zeroscope", "dinov2", "dino"]
NAMES += ["raft-small", "raft-large", "clip", "clip-large", "lpips-alex", "lpips-vgg", "lpips-squeeze"]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Nothing is there, nothing is reached, and whatever is fetched goes to ``tmp_path``."""

    def unreachable(*args, **kwargs):
        raise URLError("no route\nto host")

    monkeypatch.setattr(model_files, "snapshot_download", unreachable)
    monkeypatch.setattr(model_files, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(weights, "TRACK4GEN_MINI", tmp_path / "bundled" / "track4gen-mini")
    monkeypatch.setattr(weights, "GENERATING_MINI", tmp_path / "bundled" / "generating-mini")
    monkeypatch.setattr(weights, "RAFT_MINI", tmp_path / "bundled" / "raft-mini.safetensors")
    return tmp_path


def _listed(capsys) -> dict[str, dict[str, str]]:
    capsys.readouterr()
    assert weights.main(["list"]) == 0
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    return {name: {row.split()[0]: row.split(None, 1)[1] for row in rows} for name, *rows in blocks}


def _refused(capsys, name: str) -> str:
    capsys.readouterr()
    assert weights.main(["get", name]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def _hub_that_has(folder: Path, names: list[str], place: Path):
    """A stand-in for the hub: files of ``folder`` among ``names`` land in ``place`` when asked for."""

    def snapshot_download(model, local_files_only=False, allow_patterns=(), ignore_patterns=()):
        asked = [name for name in names if any(Path(name).match(pattern) for pattern in allow_patterns)]
        if not local_files_only:
            for name in asked:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / name, place / name)
        elif not place.is_dir():
            raise FileNotFoundError(place)
        return str(place)

    return snapshot_download


def test_every_model_is_listed_with_its_licence_and_whether_it_is_there(capsys, places):
    listed = _listed(capsys)
    assert list(listed) == NAMES
    assert {name: row["state"] for name, row in listed.items()} == dict.fromkeys(NAMES, "missing")
    assert listed["svd"]["licence"] == "Stability AI Community License"
    assert listed["zeroscope"]["licence"] == "CC-BY-NC-4.0: not for commercial use"
    assert listed["dinov2"]["licence"] == "Apache-2.0"
    assert listed["raft-large"]["licence"].startswith("BSD-3-Clause")
    assert listed["raft-small"]["size"] == "4.0 MB"
    assert listed["lpips-alex"]["size"] == "244.4 MB"
    assert listed["lpips-vgg"]["place"] == str(places / "torch" / "checkpoints" / "vgg16-397923af.pth")
    assert listed["clip"]["place"] == str(places / "hub" / "models--openai--clip-vit-base-patch32")
    assert listed["dinov2"]["place"] == str(places / "hub" / "models--facebook--dinov2-base")


def test_bundled_models_are_there_only_when_whole(capsys, places):
    mini = save_tiny_mini(places / "bundled" / "track4gen-mini")
    assert _listed(capsys)["track4gen-mini"]["state"] == "complete"
    assert weights.main(["get", "track4gen-mini"]) == 0
    assert str(mini) in capsys.readouterr().out
    file = mini / "refiner" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert _listed(capsys)["track4gen-mini"]["state"].startswith("incomplete")
    assert "git checkout -- assets/weights" in _refused(capsys, "track4gen-mini")
    assert "git checkout -- assets/weights" in _refused(capsys, "raft-mini")


@pytest.mark.parametrize(
    "name", ["svd", "zeroscope", "dinov2", "dino", "raft-small", "raft-large", "clip", "lpips-vgg"]
)
def test_offline_is_one_sentence_and_exit_code_2(capsys, name):
    said = _refused(capsys, name)
    assert "no route to host" in said
    assert "on a connected machine" in said


def test_track4gen_says_how_to_train_one(capsys):
    said = _refused(capsys, "track4gen")
    assert "no weights are published" in said
    assert "t4g train-track4gen" in said


def test_a_hub_model_is_fetched_and_a_partial_one_is_not_taken_for_whole(capsys, places, monkeypatch):
    source = save_tiny_dinov2(places / "source")
    capsys.readouterr()
    place = places / "hub" / "models--facebook--dinov2-base" / "snapshots" / "1"
    hub = _hub_that_has(source, ["config.json"], place)
    monkeypatch.setattr(model_files, "snapshot_download", hub)
    assert "lacks parts of" in _refused(capsys, "dinov2")
    assert _listed(capsys)["dinov2"]["state"] == "incomplete; run t4g weights get dinov2"
    hub = _hub_that_has(source, ["config.json", "model.safetensors"], place)
    monkeypatch.setattr(model_files, "snapshot_download", hub)
    assert weights.main(["get", "dinov2"]) == 0
    assert str(place) in capsys.readouterr().out
    listed = _listed(capsys)["dinov2"]
    assert (listed["state"], listed["place"]) == ("complete", str(place))
    assert model_files.find_folder("facebook/dinov2-base", DINOV2) == place


def test_a_trained_model_on_the_hub_is_fetched_with_all_that_makes_it_that_model(places, monkeypatch):
    source = save_tiny_mini(places / "source")
    Feedback(channels=32).save_pretrained(source / "feedback")
    NotHere().save_pretrained(source / "not_here")
    files = [path.relative_to(source).as_posix() for path in source.rglob("*.*")]
    place = places / "hub" / "snapshots" / "1"
    monkeypatch.setattr(model_files, "snapshot_download", _hub_that_has(source, files, place))
    (model,) = find_models([ModelChoice("mine", "owner/mine")], GenerationConfig(), "auto")
    assert model.folder == place
    assert model.refined
    assert has_feedback(place)
    assert {path.relative_to(place).as_posix() for path in place.rglob("*.*")} == set(files)


def test_pickled_weights_are_fetched_only_where_there_are_no_others(places, monkeypatch):
    source = save_tiny_zeroscope(places / "source")
    (source / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"as well")
    names = [str(file.relative_to(source)) for file in source.rglob("*") if file.is_file()]
    place = places / "hub" / "snapshot"
    monkeypatch.setattr(model_files, "snapshot_download", _hub_that_has(source, names, place))
    assert model_files.cached_folder("cerspense/zeroscope_v2_576w", ZEROSCOPE) is None
    assert model_files.find_folder("cerspense/zeroscope_v2_576w", ZEROSCOPE) == place
    assert (place / "unet" / "diffusion_pytorch_model.bin").is_file()
    assert not (place / "vae" / "diffusion_pytorch_model.bin").exists()
    assert (place / "tokenizer" / "vocab.json").is_file()


def test_a_set_of_files_with_one_missing_is_not_whole(tmp_path):
    folder = save_tiny_dinov2(tmp_path / "model")
    assert model_files.is_complete(folder, DINOV2)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    assert not model_files.is_complete(folder, DINOV2)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors")
    assert model_files.is_complete(folder, DINOV2)


def test_raft_is_there_only_when_its_hash_fits(capsys, places, monkeypatch):
    fetched = []

    def download(url, destination, hash_prefix, progress):
        assert progress
        fetched.append(hash_prefix)
        Path(destination).write_bytes(b"weights")

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    assert weights.main(["get", "raft-small"]) == 0
    assert fetched == ["01064c6d"]
    assert Path(torch.hub.get_dir()) / "checkpoints" == places / "torch" / "checkpoints"
    assert _listed(capsys)["raft-small"]["state"].startswith("incomplete")  # not the bytes of that hash
    monkeypatch.setattr(
        hashlib, "sha256", lambda data: type("Known", (), {"hexdigest": lambda _: "01064c6dff"})()
    )
    assert _listed(capsys)["raft-small"]["state"] == "complete"


def test_a_full_disk_is_not_blamed_on_the_hub(capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_files, "snapshot_download", full)
    said = _refused(capsys, "dinov2")
    assert "cannot be written" in said
    assert "HF_HOME" in said


def test_the_models_in_the_checkout_are_whole(capsys, monkeypatch):
    monkeypatch.setattr(weights, "TRACK4GEN_MINI", bundled.TRACK4GEN_MINI)
    monkeypatch.setattr(weights, "GENERATING_MINI", bundled.GENERATING_MINI)
    monkeypatch.setattr(weights, "RAFT_MINI", bundled.RAFT_MINI)
    listed = _listed(capsys)
    whole = {name for name, row in listed.items() if row["state"] == "complete"}
    assert whole == {"track4gen-mini", "generating-mini", "raft-mini"}
    assert listed["raft-mini"]["place"] == str(bundled.RAFT_MINI)
