"""The optimisation: it helps on points it was not trained on, and can be stopped and taken up again."""

import copy
import dataclasses

import pytest
import torch
from fit_clip import fit_clip

from adaptation.adapter import build_adapter
from adaptation.loop import adapt
from adaptation.prepare import prepare_features
from adaptation.sampling import sample_pairs
from adaptation.settings import AdaptationConfig
from t4g_tracker.datatypes import FeatureGrid, Trajectories
from t4g_tracker.errors import ConfigError, Interrupted
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

CPU = torch.device("cpu")
SHORT = AdaptationConfig(
    steps=12,
    width=16,
    pairs_per_frame=32,
    snapshots=(5, 10),
    evaluate_every=6,
    held_out=0.2,
    precision="float32",
)


@pytest.fixture(scope="module")
def clip(slide):
    return slide(6)


@pytest.fixture(scope="module")
def noise(clip):
    """Features that know nothing: every frame has random ones of its own."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(clip.frame_count, 16, 8, 16, generator=generator)
    return FeatureGrid(values.half(), 8, 3.5, clip.size)


def fit(clip, features, config=SHORT, **kwargs):
    return fit_clip(clip, features, config, **kwargs)


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    for step, weights in first.items():
        assert weights.keys() == second[step].keys()
        for name, value in weights.items():
            assert torch.equal(value, second[step][name]), f"{name} differs after step {step}"


@pytest.fixture(scope="module")
def uninterrupted(clip, noise):
    return fit(clip, noise)


def test_adaptation_lowers_the_error_on_points_it_was_not_trained_on(clip, noise, ask):
    config = dataclasses.replace(
        SHORT, steps=160, width=32, pairs_per_frame=128, held_out=0.3, learning_rate=5e-3
    )
    fitted = fit(clip, noise, config)
    shares = [row["held_out_2px"] for row in fitted.history if "held_out_2px" in row]
    assert shares[0] < 0.2
    assert shares[-1] > shares[0] + 0.3

    queries = ask(
        *((t, x, y) for t, x, y in [(0, 40, 40), (0, 70, 30), (3, 90, 20), (5, 60, 45), (5, 30, 25)])
    )
    errors = []
    for step in (0, 160):
        adapted = fitted.apply(prepare_features(noise, config.centre), clip.frames, step=step)
        tracks = track(
            queries, adapted, clip.video, MatchingConfig(), TrackingConfig(subpixel=False), VisibilityConfig()
        )
        errors.append((tracks.xy - clip.follow(queries)[0]).norm(dim=-1).median().item())
    assert errors[1] < 4 < 10 < errors[0]


@pytest.mark.parametrize("masked", [False, True])
def test_pairs_sampled_uniformly_are_learnt_from_too(clip, noise, masked):
    foreground = torch.zeros(6, 64, 128, dtype=torch.bool)
    foreground[:, :, :40] = True
    config = dataclasses.replace(SHORT, sampling="uniform", learning_rate=5e-3)
    history = fit(clip, noise, config, foreground=foreground if masked else None).history
    assert history[-1]["loss"] < 0.8 * history[1]["loss"]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(clip, noise, uninterrupted):
    assert_same_weights(fit(clip, noise).snapshots, uninterrupted.snapshots)
    other = fit(clip, noise, seed=1).snapshots[12]
    assert any(not torch.equal(other[name], value) for name, value in uninterrupted.snapshots[12].items())


@pytest.mark.parametrize("stop_after", [1, 5, 7])
def test_an_optimisation_taken_up_again_ends_as_if_it_had_not_stopped(clip, noise, uninterrupted, stop_after):
    kept, steps = [], []
    with pytest.raises(Interrupted, match=f"stopped after step {stop_after} of 12"):
        fit(
            clip,
            noise,
            save=lambda state: kept.append(copy.deepcopy(state)),
            report=lambda step, row: steps.append(step),
            stop=lambda: len(steps) == stop_after,
        )
    assert steps[-1] == kept[-1]["step"] == stop_after
    resumed = fit(clip, noise, resume=kept[-1], report=lambda step, row: steps.append(step))
    assert steps == list(range(1, 13))  # no step is taken twice
    assert_same_weights(resumed.snapshots, uninterrupted.snapshots)
    assert resumed.history == uninterrupted.history


def test_the_state_is_kept_from_time_to_time(clip, noise):
    kept = []
    fit(clip, noise, save=lambda state: kept.append(state["step"]), save_every_s=0.0)
    assert kept == list(range(1, 13))


def test_a_state_of_another_adapter_is_refused(clip, noise):
    kept = []
    fit(clip, noise, save=lambda state: kept.append(copy.deepcopy(state)), save_every_s=0.0)
    with pytest.raises(RuntimeError, match="state_dict"):
        fit(clip, noise, dataclasses.replace(SHORT, width=32), resume=kept[0])


def test_the_wanted_snapshots_the_start_and_the_end_are_kept(uninterrupted):
    assert sorted(uninterrupted.snapshots) == [0, 5, 10, 12]
    first, last = uninterrupted.snapshots[0], uninterrupted.snapshots[12]
    assert not first["last8.weight"].any()
    assert last["last8.weight"].any()


def test_the_history_has_every_step_and_measures_now_and_then(uninterrupted):
    history = uninterrupted.history
    assert [row["step"] for row in history] == list(range(13))
    assert [row["step"] for row in history if "held_out_2px" in row] == [0, 6, 12]
    weights = SHORT.losses
    for row in history[1:]:
        total = sum(getattr(weights, name) * value for name, value in row["losses"].items())
        assert row["loss"] == pytest.approx(total, rel=1e-5)
    assert uninterrupted.seconds_per_step > 0


@pytest.mark.parametrize("stop_after", [0, 3])
def test_with_patience_steps_end_when_held_out_trajectories_stop_improving(clip, noise, stop_after):
    """At a learning rate of nearly nothing no measurement is better than the first, resumed or not."""
    config = dataclasses.replace(
        SHORT, steps=40, evaluate_every=2, patience=2, learning_rate=1e-9, snapshots=()
    )
    resume = None
    if stop_after:
        kept, steps = [], []
        with pytest.raises(Interrupted):
            fit(
                clip,
                noise,
                config,
                save=lambda state: kept.append(copy.deepcopy(state)),
                report=lambda step, row: steps.append(step),
                stop=lambda: len(steps) == stop_after,
            )
        resume = kept[-1]
    fitted = fit(clip, noise, config, resume=resume)
    assert fitted.last_step == fitted.history[-1]["step"] == 4
    assert sorted(fitted.snapshots) == [0, 4]


def test_patience_lasts_as_long_as_measurements_improve(clip, noise):
    config = dataclasses.replace(
        SHORT, steps=60, width=32, pairs_per_frame=128, held_out=0.3, learning_rate=5e-3, evaluate_every=10
    )
    patient = fit(clip, noise, dataclasses.replace(config, patience=3))
    shares = [row["held_out_2px"] for row in patient.history if "held_out_2px" in row]
    ends = [n for n in range(4, len(shares) + 1) if max(shares[n - 3 : n]) <= max(shares[: n - 3])]
    assert patient.last_step == 10 * (ends[0] - 1 if ends else 6)
    assert patient.history == fit(clip, noise, config).history[: patient.last_step + 1]


def test_without_steps_the_adapter_is_the_untrained_one(clip, noise):
    config = dataclasses.replace(SHORT, steps=0)
    fitted = adapt(
        prepare_features(noise, True), clip.frames, None, config, MatchingConfig(), seed=3, device=CPU
    )
    wanted = build_adapter("lite", 16, 16, seed=3).state_dict()
    assert_same_weights(fitted.snapshots, {0: dict(wanted)})
    assert fitted.history == []


@pytest.mark.parametrize("steps", [1, 2, 19, 20, 21])
@pytest.mark.parametrize("schedule", ["one-cycle", "exponential"])
def test_any_number_of_steps_can_be_asked_for(clip, noise, steps, schedule):
    config = dataclasses.replace(SHORT, steps=steps, schedule=schedule, pairs_per_frame=4)
    fitted = fit(clip, noise, config)
    assert fitted.history[-1]["step"] == steps
    assert all(value.isfinite().all() for value in fitted.snapshots[steps].values())


def test_gradients_are_shortened_to_the_norm_that_is_set_and_left_alone_at_0(clip, noise):
    def moved(clip_norm):
        """Largest change of a weight in 3 steps; Adam hardly moves on gradients below its epsilon."""
        weights = fit(clip, noise, dataclasses.replace(SHORT, steps=3, clip_norm=clip_norm)).snapshots
        return max((weights[3][name] - weights[0][name]).abs().max().item() for name in weights[0])

    assert moved(1e-12) < 0.1 * moved(0.0)
    assert moved(0.0) == moved(1e6)


@pytest.fixture
def sampled(monkeypatch):
    """Every batch of pairs that the loop samples, in order: eight to measure on, then one per step."""
    batches = []

    def recorded(*args, **kwargs):
        batches.append(sample_pairs(*args, **kwargs))
        return batches[-1]

    monkeypatch.setattr("adaptation.loop.sample_pairs", recorded)
    return batches


def test_a_delta_cnn_learns_from_as_many_frames_a_step_as_set(clip, noise, sampled):
    config = dataclasses.replace(
        SHORT, adapter="delta-cnn", frames_per_step=4, steps=12, learning_rate=1e-2, held_out=0.0
    )
    fitted = fit(clip, noise, config)
    assert len(sampled) == 12  # none to measure on, for nothing is held out
    assert all(len(batch.frames.unique()) == 4 and len(batch.source) == 4 * 32 for batch in sampled)
    losses = [row["loss"] for row in fitted.history[1:]]
    assert losses[-1] < 0.75 * losses[0]
    wanted = build_adapter("delta-cnn", 16, 16, seed=0).state_dict()
    assert {name: value.shape for name, value in fitted.snapshots[5].items()} == {
        name: value.shape for name, value in wanted.items()
    }


def test_the_prior_holds_adapted_features_near_the_frozen_ones(clip, noise, uninterrupted):
    losses = dataclasses.replace(SHORT.losses, prior=30.0)
    held = fit(clip, noise, dataclasses.replace(SHORT, losses=losses))
    assert held.history[1]["losses"].keys() == {"cross_entropy", "window_cross_entropy", "prior"}
    assert uninterrupted.history[1]["losses"].keys() == {"cross_entropy", "window_cross_entropy"}
    frozen = prepare_features(noise, SHORT.centre)

    def change(fitted):
        """Mean distance of adapted features from the frozen ones, all of unit length."""
        before = fitted.apply(frozen, clip.frames, step=0).values.float()
        return (fitted.apply(frozen, clip.frames).values.float() - before).norm(dim=1).mean().item()

    assert 0 < change(held) < 0.5 * change(uninterrupted)


def test_bfloat16_computes_nearly_the_same_and_leaves_weights_in_full_precision(clip, noise, uninterrupted):
    fitted = fit(clip, noise, dataclasses.replace(SHORT, precision="bfloat16"))
    loss, full = fitted.history[1]["loss"], uninterrupted.history[1]["loss"]
    assert loss == pytest.approx(full, rel=0.01)
    assert loss != full
    assert all(value.dtype != torch.bfloat16 for value in fitted.snapshots[12].values())


@pytest.mark.parametrize("count", [0, 3])
def test_what_cannot_be_held_out_is_not_measured_on(clip, noise, uninterrupted, monkeypatch, caplog, count):
    """Neither on nothing nor on points of which no two frames of the video share two."""

    def split(trajectories, *_):
        apart = torch.arange(len(trajectories)) < count
        few = trajectories.subset(apart)
        first = few.first  # of each its first position alone
        return trajectories, Trajectories(torch.ones_like(few.length), few.frame[first], few.xy[first])

    monkeypatch.setattr("adaptation.loop.hold_out", split)
    history = fit(clip, noise).history
    assert not any("held_out_2px" in row for row in history)
    assert len(history) == len(uninterrupted.history)
    assert ("too few trajectories are held out" in caplog.text) == (count > 0)


def test_a_grid_that_does_not_tile_the_frame_is_refused(clip, noise):
    for changes in ({"offset_px": 0.0}, {"values": noise.values[..., :-1]}):
        with pytest.raises(ValueError, match="must tile the frame"):
            fit(clip, dataclasses.replace(noise, **changes))


def test_with_a_foreground_half_of_the_pairs_begin_inside_it(clip, noise, sampled):
    left = torch.zeros(6, 64, 128, dtype=torch.bool)
    left[:, :, :40] = True  # taken as rows, this would be most of the frame
    within_px = 40 + 5 * clip.velocity[0]  # how far right what began inside can be

    def share_inside(batches):
        return torch.cat([batch.source_xy[:, 0] < within_px for batch in batches]).float().mean().item()

    fit(clip, noise)
    plain = share_inside(sampled)
    sampled.clear()
    fit(clip, noise, foreground=left)
    assert share_inside(sampled[8:]) > 0.5 + 0.5 * plain - 0.05


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": -1},
        {"width": 20},
        {"learning_rate": 0.0},
        {"frames_per_step": 1},
        {"pairs_per_frame": 0},
        {"held_out": 0.6},
        {"clip_norm": -1.0},
        {"snapshots": (0,)},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        AdaptationConfig(**settings)
