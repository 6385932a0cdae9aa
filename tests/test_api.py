"""The library: one call from arrays to arrays, fit once and ask often, no side effects."""

import dataclasses
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import t4g_tracker
from adaptation.adapter import build_adapter
from adaptation.result import Adaptation
from t4g_tracker import Config, QueryPoints, TrackerError, fit, pipeline, read_settings, track_points
from t4g_tracker.features.extractor import extract_features
from t4g_tracker.features.settings import FeaturesConfig

ROOT = Path(__file__).parents[1]
POINTS = [[0, 40, 40], [5, 60.25, 30.5]]


@pytest.fixture(scope="module")
def clip(slide):
    return slide(8, (64, 96), (2.0, -1.0))


@pytest.fixture(scope="module")
def config(tiny_settings):
    return read_settings(Config(), None, list(tiny_settings))


@pytest.fixture(autouse=True)
def no_cache_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("T4G_CACHE", str(tmp_path / "cache"))


def test_arrays_in_arrays_out_and_the_points_are_followed(clip, config, ask):
    tracks = track_points(clip.video.frames, POINTS, steps=20, device="cpu", config=config)
    assert (tracks.xy.shape, tracks.xy.dtype) == ((2, 8, 2), np.float32)
    assert (tracks.visibility.shape, tracks.visibility.dtype) == ((2, 8), bool)
    assert (tracks.confidence.shape, tracks.confidence.dtype) == ((2, 8), np.float32)
    true, _ = clip.follow(ask(*POINTS))
    assert np.abs(tracks.xy - true.numpy()).max() < 1


def test_a_tensor_a_path_and_an_array_of_the_same_video_give_the_same_tracks(
    clip, config, save_frames, tmp_path
):
    given = [clip.video.frames, clip.frames, clip.frames[None].float(), save_frames(clip, tmp_path / "clip")]
    found = [track_points(frames, POINTS, steps=3, device="cpu", config=config) for frames in given]
    for other in found[1:]:
        assert np.array_equal(found[0].xy, other.xy)
        assert np.array_equal(found[0].confidence, other.confidence)


def test_a_fitted_video_is_asked_again_without_fitting_again(clip, config, monkeypatch):
    fitted = fit(clip.video, config, device="cpu", cache=False)
    both = fitted.track(POINTS)
    for work in ("adapt", "extract_features", "FlowEstimator"):
        monkeypatch.setattr(pipeline, work, None)  # calling it would fail
    assert torch.equal(fitted.track(POINTS[1:]).xy[0], both.xy[1])
    named = QueryPoints(torch.tensor([0]), torch.tensor([[40.0, 40.0]]), ("nose",))
    assert torch.equal(fitted.track(named).xy[0], both.xy[0])


def test_flow_alone_follows_the_points_and_needs_no_features(clip, config, ask, monkeypatch):
    fitted = fit(clip.video, config, device="cpu", cache=False)
    monkeypatch.setattr(Adaptation, "apply", None)  # calling it would fail
    tracks = fitted.follow(POINTS)
    xy, _ = clip.follow(ask(*POINTS))
    assert (tracks.xy - xy).norm(dim=-1).max() < 1
    assert tracks.visibility.all()


def test_the_seed_decides(clip, config):
    alone = dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, motion=False))

    def confidence(seed):  # of matching: flow has no seed
        call = {"steps": 3, "device": "cpu", "seed": seed, "config": alone, "cache": False}
        return track_points(clip.video.frames, POINTS, **call).confidence

    first = confidence(1)
    assert np.array_equal(first, confidence(1))
    assert not np.array_equal(first, confidence(2))


def test_masks_guide_the_training(clip, config, monkeypatch):
    seen = []

    def adapt(*args, foreground, **kwargs):
        seen.append(foreground)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "adapt", adapt)
    masks = np.zeros((8, 64, 96), bool)
    masks[:, :, 48:] = True
    with pytest.raises(KeyboardInterrupt):
        track_points(clip.video.frames, POINTS, masks=masks, config=config, device="cpu")
    assert seen[0].shape == (8, 64, 128)  # the working size
    assert not seen[0][..., :60].any()
    assert seen[0][..., 68:].all()


def test_one_object_of_a_folder_of_masks_guides_the_training(clip, config, monkeypatch, tmp_path):
    def fit(*args, masks, **kwargs):
        raise KeyboardInterrupt(masks)

    monkeypatch.setattr("t4g_tracker.api.fit", fit)
    values = np.repeat(np.arange(3), 32)[None].repeat(64, axis=0)
    for index in range(8):
        np.save(tmp_path / f"{index}.npy", values)
    with pytest.raises(KeyboardInterrupt) as caught:
        track_points(clip.video.frames, POINTS, masks=tmp_path, mask_object=2, config=config, device="cpu")
    assert np.array_equal(caught.value.args[0], np.stack([values == 2] * 8))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": [[0, 0.5, 0.5]]}, "multiply x by 96"),
        ({"frames": "no_such.mp4"}, "no_such.mp4"),
        ({"masks": np.ones((2, 64, 96))}, "masks: must be"),
        ({"masks": np.ones((8, 64, 96)), "mask_object": 1}, "mask_object: goes with a folder of masks"),
        ({"device": "cuda:77"}, "device cuda:77: "),
        ({"steps": -1}, "steps must be from 0 to"),
        ({"config": "fast"}, "config must be a Config, got 'fast'; read a file by read_settings"),
        ({"device": 3}, "device 3: is not a device; did you mean cuda:3?"),
        ({"device": torch.device("cuda:77")}, "device cuda:77: "),
        ({"steps": 2.0}, "steps must be a whole number, got 2.0"),
        ({"seed": 2**70}, "seed must be from 0 to"),
        ({"cache": __file__}, "a file is in the way of this folder"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(clip, config, monkeypatch, changes, said):
    for work in ("adapt", "extract_features", "FlowEstimator"):
        monkeypatch.setattr(pipeline, work, None)
    given = {"frames": clip.video.frames, "points": POINTS, "device": "cpu", "config": config} | changes
    with pytest.raises(TrackerError, match=re.escape(said)):
        track_points(**given)


def test_progress_is_a_callback_and_nothing_else_of_the_program_changes(clip, config, capfd, tmp_path):
    heard = []
    numbers = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    handlers = {number: signal.getsignal(number) for number in watched}
    state = torch.get_num_threads(), dict(os.environ), list(warnings.filters)
    mask = os.umask(0o027)
    try:
        where = {"device": "cpu", "config": config, "cache": tmp_path / "mine"}
        track_points(clip.video.frames, POINTS, 3, progress=lambda *now: heard.append(now), **where)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)
    assert torch.equal(torch.get_rng_state(), numbers[0])
    assert (np.random.get_state()[1] == numbers[1]).all()  # noqa: NPY002
    assert random.getstate() == numbers[2]
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert (torch.get_num_threads(), dict(os.environ), list(warnings.filters)) == state
    assert capfd.readouterr() == ("", "")
    assert heard[0] == ("features", 0, clip.frame_count)  # before the model is loaded
    assert ("adaptation", 3, 3) in heard
    assert {"features", "flow", "trajectories", "adaptation", "tracking"} <= {stage for stage, _, _ in heard}
    assert all(path.stat().st_mode & 0o777 == 0o640 for path in (tmp_path / "mine").rglob("*.pt"))


def test_without_a_cache_nothing_is_written(clip, config, tmp_path, monkeypatch):
    monkeypatch.setenv("T4G_CACHE", str(tmp_path / "cache"))
    track_points(clip.video.frames, POINTS, 2, "cpu", config=config, cache=False)
    assert not (tmp_path / "cache").exists()


def test_whole_numbers_of_numpy_are_numbers(clip, config):
    call = {"steps": np.int64(2), "seed": np.int32(1), "device": "cpu", "config": config, "cache": None}
    assert track_points(clip.video.frames, POINTS, **call).xy.shape == (2, 8, 2)


def test_it_works_where_gradients_are_off(clip, config):
    with torch.no_grad():
        fit(clip.frames, config, device="cpu", cache=False).track(POINTS)


def test_what_is_fitted_stays_in_its_process_and_says_so(clip, config):
    fitted = fit(clip.video.frames, config, device="cpu", cache=False)
    with pytest.raises(TypeError, match="call fit with the same video and cache"):
        pickle.dumps(fitted)
    assert fitted == fitted
    assert fitted in {fitted}


def test_generators_of_the_gpu_are_left_alone(monkeypatch):
    """Also those that are only seeded once the GPU is first used."""
    seeded = []
    for name in ("torch.cuda.manual_seed_all", "torch.cuda.manual_seed", "torch.mps.manual_seed"):
        monkeypatch.setattr(name, seeded.append)
    build_adapter("lite", 8, 16, seed=5)
    assert not seeded


def test_progress_bars_of_other_libraries_are_as_they_were():
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    frames = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    extract_features(frames, FeaturesConfig(), torch.device("cpu"), seed=0)
    assert (logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == before


def test_features_of_one_adapter_are_refused_by_another(clip, config):
    fitted = fit(clip.video, config, device="cpu", cache=False)
    other = replace(config, adaptation=replace(config.adaptation, centre=False, steps=0))
    with pytest.raises(ValueError, match="fitted on features of 64 channels, centre=True"):
        fitted.stages.adaptation.value.apply(
            fit(clip.video, other, device="cpu", cache=False).stages.prepared.value, fitted.clip.frames
        )


def test_every_public_name_is_there_and_said_to_type_checkers_too():
    source = (ROOT / "t4g_tracker" / "__init__.py").read_text()
    typed = set(re.findall(r"^    from \S+ import (\w+) as \1$", source, re.M))
    assert typed == set(t4g_tracker.__all__) - {"__version__"}
    for name in t4g_tracker.__all__:
        assert getattr(t4g_tracker, name) is not None
    assert not hasattr(t4g_tracker, "no_such_name")
    assert re.fullmatch(r"\d+\.\d+\.\d+", t4g_tracker.__version__)


def test_the_package_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "t4g_tracker", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == f"t4g-tracker {t4g_tracker.__version__}\n"


@pytest.mark.parametrize(
    ("given", "said"), [("trak", "did you mean track?"), ("xyzzy", "commands are track, bench")]
)
def test_a_mistyped_command_is_one_line(given, said, capsys):
    from t4g_tracker.__main__ import main

    assert main([given]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: t4g {given}: is not a command; ")
    assert said in error
    assert error.count("\n") == 1
