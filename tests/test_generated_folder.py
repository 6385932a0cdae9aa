"""What ``t4g generate`` writes, the other commands read: all of it, and models in the same order."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_generated import write_generated, write_record
from tiny_models import save_tiny_svd

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.errors import VideoError
from t4g_tracker.outputs.generated import (
    RECORD,
    find_generated,
    frames_name,
    generated_within,
    list_generated,
    read_generated,
    read_recorded,
    side_by_side_name,
    tracks_names,
    video_name,
)

MODELS = ["tuned", "base"]  # not in the order of the alphabet
LARGEST_SEED = 2**63 - 1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two pictures by two models with two seeds, as ``runs``, and what three commands make of them."""
    folder = tmp_path_factory.mktemp("generated")
    save_tiny_svd(folder / "model")
    (folder / "pictures").mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    for name, picture in zip(("cow", "dog"), pictures, strict=True):
        Image.fromarray(picture).save(folder / "pictures" / f"{name}.png")
    small = ["--size", "64", "64", "--steps", "1", "--guidance", "1", "1", "--frames", "2", "--quiet"]
    given = ["--models", *[f"{model}={folder / 'model'}" for model in MODELS]]
    given += ["--seeds", "1", str(LARGEST_SEED), "--device", "cpu", *small]
    runs = str(folder / "runs")
    commands = {
        "runs": ["generate", "--image", str(folder / "pictures"), *given],
        "study": f"study make --runs {runs} --ours tuned --baselines base --pairs 4 --checks 0".split(),
        "metrics": f"video-metrics {runs} --measures motion --device cpu --quiet".split(),
        "site": f"gallery {runs} --cache {folder / 'cache'}".split(),
    }
    for out, command in commands.items():
        assert t4g([*command, "--out", str(folder / out)]) == 0, command
    return folder


@pytest.fixture(scope="module")
def recorded(place):
    """(image, model, seed) of every video of the record."""
    record = json.loads((place / "runs" / RECORD).read_text())
    assert list(record["models"]) == MODELS
    found = {(entry["picture"], entry["model"], entry["seed"]) for entry in record["videos"].values()}
    assert len(found) == 2 * 2 * 2
    return found


def test_every_video_is_measured(place, recorded):
    with (place / "metrics" / "video-metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["image"], row["model"], int(row["seed"])) for row in rows) == sorted(recorded)
    with (place / "metrics" / "models.csv").open() as file:
        models = [(row["model"], row["kind"]) for row in csv.DictReader(file)]
    assert models == [("tuned", "mean"), ("base", "mean"), ("base", "difference from tuned")]


def test_every_video_is_shown_to_participants_if_there_are_enough_pairs(place, recorded):
    trials = json.loads((place / "study" / "key.json").read_text())["trials"]
    shown = {(trial["image"], trial[side], trial["seed"]) for trial in trials for side in ("a", "b")}
    assert shown == recorded


def test_every_video_is_in_the_gallery_under_its_model(place, recorded):
    (folder,) = json.loads((place / "site" / "gallery.json").read_text())["generated"]
    assert folder["models"] == MODELS
    shown = {
        (row["image"], model, row["seed"]): place / "site" / video
        for row in folder["rows"]
        for model, video in zip(folder["models"], row["videos"], strict=True)
    }
    assert set(shown) == recorded
    for (image, model, seed), copy in shown.items():
        assert copy.read_bytes() == (place / "runs" / video_name(image, model, seed)).read_bytes()


def test_scenes_have_their_models_in_the_order_of_the_record(place):
    generated = read_generated(place / "runs")
    assert generated.models == MODELS
    assert [list(scene.videos) for scene in generated.scenes] == [MODELS] * 4
    assert [(scene.image, scene.seed) for scene in generated.scenes] == [
        (image, seed) for image in ("cow", "dog") for seed in (1, LARGEST_SEED)
    ]
    assert all(scene.input == place / "runs" / scene.image / "input.png" for scene in generated.scenes)


def test_models_of_the_latest_run_come_first_then_those_of_earlier_ones_then_strangers(tmp_path):
    for model in ("a", "b", "c", "d", "e"):
        (tmp_path / video_name("cow", model, 3)).parent.mkdir(parents=True)
        (tmp_path / video_name("cow", model, 3)).touch()
    assert [video.model for video in list_generated(tmp_path)] == ["a", "b", "c", "d", "e"]
    videos = {video_name("cow", model, 3): {} for model in ("d", "b", "e", "gone")}
    (tmp_path / RECORD).write_text(json.dumps({"models": {"e": {}}, "videos": videos}))
    assert [video.model for video in list_generated(tmp_path)] == ["e", "d", "b", "a", "c"]
    (tmp_path / RECORD).write_text("damaged")
    assert [video.model for video in list_generated(tmp_path)] == ["a", "b", "c", "d", "e"]


def test_paths_within_a_folder_are_relative_if_it_is(place, monkeypatch):
    monkeypatch.chdir(place)
    for folder in ("runs", "runs/cow", "runs/cow/base"):
        expected = [one for one in list_generated(Path("runs")) if Path(folder) in one.path.parents]
        assert generated_within(Path(folder)) == expected
    monkeypatch.chdir(place / "runs" / "cow")
    assert str(generated_within(Path())[0].path) == "tuned/seed-1.mp4"


def test_the_record_of_a_run_says_that_its_videos_are_alike(place):
    recorded = read_recorded(place / "runs")
    for picture in ("cow", "dog"):
        assert recorded.unlike(picture, 1, MODELS) == []
        assert recorded.from_same_noise(picture, 1, MODELS)


@pytest.mark.parametrize(
    ("changed", "groups", "unlike", "same"),
    [
        ({}, None, [], True),
        ({"steps": 10}, None, ["steps"], True),
        ({"width": 128}, None, ["size", "noise"], False),
        ({"frames": 8, "fps": 3}, None, ["frames", "fps", "noise"], False),
        ({}, [["a"], ["b"]], ["noise"], False),
        ({}, [["a"]], [], False),  # b is of an earlier run
        (None, [["a", "b"]], [], False),  # b is from elsewhere
    ],
)
def test_the_record_tells_in_what_two_videos_differ(tmp_path, changed, groups, unlike, same):
    write_generated(tmp_path, images=("cow",), models=("a", "b"), seeds=(1,), frames=2)
    write_record(tmp_path, {"a": {}} if changed is None else {"a": {}, "b": changed}, groups)
    recorded = read_generated(tmp_path).recorded
    assert recorded.unlike("cow", 1, ["a", "b"]) == unlike
    assert recorded.from_same_noise("cow", 1, ["a", "b"]) == same


@pytest.mark.parametrize(
    "record", ["damaged", "[]", '{"videos": 1, "same_noise": 2}', '{"videos": {"x": 1}}']
)
def test_a_damaged_record_tells_nothing(tmp_path, record):
    (tmp_path / RECORD).write_text(record)
    assert not read_recorded(tmp_path).settings
    assert not read_recorded(tmp_path).from_same_noise("cow", 1, ["a", "b"])


def test_only_videos_are_taken_for_videos(tmp_path):
    video = video_name("cow", "a", 3)
    others = [*tracks_names(video), f"{frames_name(video)}/000.png", side_by_side_name("cow", 3)]
    for name in (*others, "cow/a/seed-x.mp4"):
        (tmp_path / "below" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "below" / name).touch()
    assert find_generated(tmp_path) == []
    with pytest.raises(VideoError, match="holds no video IMAGE/MODEL/seed-N"):
        list_generated(tmp_path / "below")
    (tmp_path / "below" / video).touch()
    assert find_generated(tmp_path) == [tmp_path / "below"]
    shutil.copytree(tmp_path / "below", tmp_path / "deeper" / "still")
    assert find_generated(tmp_path) == [tmp_path / "below", tmp_path / "deeper" / "still"]
