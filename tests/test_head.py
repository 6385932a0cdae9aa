"""The head of cost maps: what it does to a map, and that it is fitted, saved and used with the adapter."""

import copy
import dataclasses

import pytest
import torch

from adaptation.adapter import build_head
from adaptation.loop import adapt
from adaptation.prepare import prepare_features
from adaptation.settings import AdaptationConfig
from adaptation.state import start_state
from t4g_tracker.config import read_settings
from t4g_tracker.errors import Interrupted
from t4g_tracker.fitted import fit
from t4g_tracker.matching.cost_maps import soft_argmax
from t4g_tracker.matching.head import CostMapHead
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.pipeline import Config

CPU = torch.device("cpu")


def cost_map(seed=0, size=(20, 30)):
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed)) - 0.2


@torch.no_grad()
def test_a_head_of_centre_taps_is_a_softmax_of_temperature_a_sixteenth():
    head = CostMapHead()
    for layer in (head.first, head.second):
        layer.weight.zero_()
        layer.weight[..., 1, 1] = 0.3  # divided by its sum, a tap of 1
        layer.bias.zero_()
    cost = cost_map()
    found, _ = soft_argmax(head(cost), 5.0, 1.0)
    torch.testing.assert_close(found, soft_argmax(cost.relu(), 5.0, 1 / 16)[0])


@torch.no_grad()
def test_a_head_that_is_not_trained_keeps_plain_maps_plain_and_ignores_what_is_unlike():
    head = build_head("cnn", seed=0)
    inner = head(torch.full((1, 9, 9), 0.4))[0, 2:-2, 2:-2]
    torch.testing.assert_close(inner, inner[:1, :1].expand_as(inner))
    torch.testing.assert_close(head(torch.full((1, 9, 9), -0.5)), head(torch.zeros(1, 9, 9)))


@torch.no_grad()
def test_the_scale_and_the_sign_of_a_kernel_do_not_matter():
    head = build_head("cnn", seed=0)
    other = copy.deepcopy(head)
    other.first.weight[3] *= -7.0
    other.second.weight[0, 5] *= 0.1
    torch.testing.assert_close(other(cost_map()), head(cost_map()))


@torch.no_grad()
def test_a_map_that_is_moved_gives_what_is_moved():
    head, cost = build_head("cnn", seed=0), torch.zeros(1, 20, 30)
    cost[0, 5:12, 6:14] = cost_map(size=(7, 8))[0]
    moved = cost.roll((4, 9), (1, 2))
    inner = head(cost).roll((4, 9), (1, 2))
    torch.testing.assert_close(head(moved)[:, 7:-2, 12:-2], inner[:, 7:-2, 12:-2])


def test_the_published_head_has_305_weights():
    assert sum(parameter.numel() for parameter in CostMapHead().parameters()) == 305


SHORT = AdaptationConfig(
    steps=8,
    head="cnn",
    adapter="delta-cnn",
    pairs_per_frame=32,
    snapshots=(4,),
    evaluate_every=4,
    held_out=0.2,
    learning_rate=1e-2,
    schedule="exponential",
    precision="float32",
)


@pytest.fixture(scope="module")
def clip(slide):
    return slide(6)


def fitted(clip, config=SHORT, **kwargs):
    losses = dataclasses.replace(config.losses, huber=100.0, cross_entropy=0.0)
    config = dataclasses.replace(config, losses=losses)
    prepared = prepare_features(clip.features(stride_px=8), config.centre)
    return adapt(
        prepared, clip.frames, clip.trajectories, config, MatchingConfig(), seed=0, device=CPU, **kwargs
    )


def states(adaptation, step):
    return {**adaptation.adapter(step).state_dict(), **adaptation.head(step).state_dict(prefix="head.")}


@pytest.mark.parametrize("adapter", ["delta-cnn", "lite"])
def test_a_head_is_fitted_along_with_the_adapter_and_resumes_like_it(clip, adapter):
    config = dataclasses.replace(SHORT, adapter=adapter, width=16)
    whole = fitted(clip, config)
    assert whole.history[-1]["loss"] < 0.8 * whole.history[1]["loss"]
    untrained = build_head("cnn", seed=0).state_dict()
    assert all(torch.equal(value, untrained[name]) for name, value in whole.head(0).state_dict().items())
    assert all(not torch.equal(value, untrained[name]) for name, value in whole.head().state_dict().items())
    kept = []
    with pytest.raises(Interrupted):
        fitted(clip, config, save=lambda state: kept.append(copy.deepcopy(state)), stop=lambda: True)
    resumed = fitted(clip, config, resume=kept[-1])
    for step in (4, 8):
        wanted, found = states(whole, step), states(resumed, step)
        assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_the_rate_of_the_published_schedule_falls_for_the_adapter_alone():
    state = start_state(4, SHORT, 0, CPU, torch.Generator())
    for _ in range(400):
        state.optimiser.step()
        state.scheduler.step()
    adapter, head = (group["lr"] for group in state.optimiser.param_groups)
    assert adapter == pytest.approx(0.01 * 0.999**10)
    assert head == 0.01


def test_tracking_uses_the_head_of_the_step_asked_for_also_from_the_cache(clip, tiny_settings, tmp_path):
    config = read_settings(Config(), None, [*tiny_settings, "adaptation.head=cnn", "flow.method=dis"])
    points = [[0, 40, 40], [3, 70, 30]]
    first = fit(clip.video, config, cache=tmp_path)
    again = fit(clip.video, config, cache=tmp_path)
    assert "adaptation" in again.run.log.cached
    for step in (0, 10, 20):
        assert torch.equal(again.match(points, step).xy, first.match(points, step).xy)
    weights = first.stages.adaptation.value.snapshots[20]
    weights["head.second.bias"] += 3.0  # a softmax ignores what is added to all
    torch.testing.assert_close(first.match(points).xy, again.match(points).xy, atol=1e-3, rtol=0)
    weights["head.first.bias"] -= 10.0  # empties every map
    assert (first.match(points).xy - again.match(points).xy).abs().max() > 0.1
