"""On a CUDA GPU the same code gives what the CPU gives, and leaves the program's own device alone."""

import dataclasses

import numpy as np
import pytest
import torch

from adaptation.loop import adapt
from adaptation.prepare import prepare_features
from adaptation.sampling import sample_pairs
from adaptation.state import start_state
from adaptation.stepper import Stepper
from t4g_tracker import Config, fit, read_settings, track_points
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.stage_log import StageLog

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
POINTS = [[0, 40, 40], [5, 60.25, 30.5]]


@pytest.fixture(scope="module")
def clip(slide):
    return slide(8, (64, 96), (2.0, -1.0))


@pytest.fixture(scope="module")
def config(tiny_settings):
    return read_settings(Config(), None, tiny_settings)


def test_the_first_steps_of_the_optimisation_are_those_of_the_cpu(clip, config):
    prepared = prepare_features(clip.features(stride_px=8), centre=True)
    losses = {}
    for device in ("cpu", "cuda"):
        fitted = adapt(
            prepared,
            clip.frames,
            clip.trajectories,
            config.adaptation,
            MatchingConfig(),
            seed=0,
            device=torch.device(device),
        )
        losses[device] = [row["loss"] for row in fitted.history[1:]]
    assert losses["cuda"][:5] == pytest.approx(losses["cpu"][:5], rel=2e-3)
    assert losses["cuda"][-1] == pytest.approx(losses["cpu"][-1], rel=0.1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("head", ["softmax", "cnn"])
@pytest.mark.parametrize("adapter", ["lite", "delta-cnn"])
def test_steps_replayed_from_a_graph_are_plain_steps(clip, config, adapter, head, precision, caplog):
    cuda = torch.device("cuda")
    settings = dataclasses.replace(
        config.adaptation, adapter=adapter, head=head, precision=precision, steps=50
    )
    features = prepare_features(clip.features(stride_px=8), centre=True)
    curves = []
    for capture in (False, True):
        generator = torch.Generator().manual_seed(0)
        state = start_state(features.channels, settings, 0, cuda, generator)
        stepper = Stepper(
            state, features.values, clip.frames, settings, MatchingConfig(), cuda, capture=capture
        )
        for _ in range(50):
            stepper.step(sample_pairs(clip.trajectories, 8, 2, 32, generator))
            stepper.measure([sample_pairs(clip.trajectories, 8, 2, 32, generator)])
        curves.append([row["loss"] for row in stepper.read()])
        assert (stepper._captured is not None) == capture
    assert "no CUDA graph" not in caplog.text
    assert curves[1] == pytest.approx(curves[0], rel=1e-2)
    assert curves[1][:10] == pytest.approx(curves[0][:10], rel=1e-3)


def test_a_pass_that_cannot_be_recorded_leaves_the_stream_and_plain_steps_alone(clip, config):
    cuda = torch.device("cuda")
    settings = dataclasses.replace(config.adaptation, steps=20)
    features = prepare_features(clip.features(stride_px=8), centre=True)
    generator = torch.Generator().manual_seed(0)
    state = start_state(features.channels, settings, 0, cuda, generator)
    stepper = Stepper(state, features.values, clip.frames, settings, MatchingConfig(), cuda)
    plain, stream = stepper._pass, torch.cuda.current_stream()

    def waiting(inputs):
        losses = plain(inputs)
        losses[0].item()
        return losses

    stepper._pass = waiting
    for _ in range(10):
        stepper.step(sample_pairs(clip.trajectories, 8, 2, 32, generator))
    assert len(stepper.read()) == 10
    assert stepper._captured is None
    assert torch.cuda.current_stream() == stream


def test_the_published_recipe_begins_as_on_the_cpu(clip, tiny_settings):
    settings = [*tiny_settings, "flow.method=dis", "adaptation.steps=4", "adaptation.late_start=0"]
    config = read_settings(read_settings(Config(), "dino-tracker"), None, settings)
    first = {}
    for device in ("cpu", "cuda"):
        fitted = fit(clip.video, config, device=device, cache=False)
        first[device] = fitted.stages.adaptation.value.history[1]["losses"]
        assert fitted.track(POINTS).visibility.any()
    assert first["cuda"] == pytest.approx(first["cpu"], rel=0.05, abs=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_points_are_followed(clip, config, ask, precision):
    settings = read_settings(config, None, [f"adaptation.precision={precision}"])
    tracks = track_points(clip.video.frames, POINTS, 20, "cuda", config=settings, cache=False)
    true, _ = clip.follow(ask(*POINTS))
    assert np.abs(tracks.xy - true.numpy()).max() < 1


def test_frames_on_the_gpu_are_taken(clip, config):
    on_gpu = track_points(clip.frames.cuda()[None].float(), POINTS, 2, "cuda", config=config, cache=False)
    assert on_gpu.xy.shape == (2, 8, 2)


def test_the_current_device_stays_and_memory_is_measured(clip, config):
    before = torch.cuda.current_device()
    fitted = fit(clip.video, config, device=f"cuda:{torch.cuda.device_count() - 1}", cache=False)
    log = StageLog(peaks=True, device=fitted.run.device)
    with log.stage("tracking"):
        fitted.track(POINTS)
    assert torch.cuda.current_device() == before
    assert log.stages["tracking"]["peak_gpu_memory_mb"] > 0
