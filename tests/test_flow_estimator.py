"""Optical flow: which method ``auto`` stands for, RAFT at half size, and its refinement by DIS."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tiny_flow import shifted_pair
from torchvision.models.optical_flow import raft_small

from t4g_tracker.bundled import RAFT_MINI
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.flow import raft, search
from t4g_tracker.flow.dis import refine_flow
from t4g_tracker.flow.estimator import FlowEstimator, resolve_flow
from t4g_tracker.flow.settings import FlowConfig

CPU = torch.device("cpu")


@pytest.fixture
def shifted():
    return shifted_pair()


def test_auto_is_published_raft_where_it_is_and_dis_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    assert resolve_flow(FlowConfig()).method == "dis"
    for name in ("raft-small", "raft-large"):
        path = raft.published_file(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        assert resolve_flow(FlowConfig()).method == name
        assert resolve_flow(FlowConfig()).refine == "best"
        assert resolve_flow(FlowConfig(refine="dis")).refine == "dis"
        assert resolve_flow(FlowConfig(method=name)).refine == "none"
        assert resolve_flow(FlowConfig(method="dis")).method == "dis"
    with pytest.raises(ConfigError, match=r"flow\.method is auto; set it to the model"):
        resolve_flow(FlowConfig(weights="flow.pth"))


def test_raft_at_half_size_answers_in_pixels_of_the_frames(shifted, monkeypatch):
    def constant(model, frames, pairs, updates, device, progress, empty):
        assert frames.shape[-2:] == (72, 96)
        return torch.full((len(pairs), 2, 72, 96), 2.0, dtype=torch.float16)

    monkeypatch.setattr(raft, "load_raft", lambda *_: None)
    monkeypatch.setattr(raft, "raft_flow_pairs", constant)
    estimator = FlowEstimator(FlowConfig(method="raft-small", raft_scale=0.5), CPU)
    estimator._raft = object()
    flow = estimator.pairs(torch.stack([shifted.first, shifted.second]), [(0, 1)])
    assert flow.shape == (1, 2, 144, 192)
    assert bool((flow == 4).all())


def test_refining_brings_a_rough_flow_closer_to_the_truth(shifted):
    rough = shifted.forward + torch.randn(2, 9, 12, generator=torch.manual_seed(0)).repeat_interleave(
        16, 1
    ).repeat_interleave(16, 2)
    refined = refine_flow(shifted.first, shifted.second, rough)
    before, after = ((flow - shifted.forward).norm(dim=0)[16:-16, 16:-16] for flow in (rough, refined))
    assert float(after.mean()) < 0.2 * float(before.mean())


def test_refining_that_ends_at_half_size_suits_grainy_frames(shifted):
    grain = torch.randn(2, 3, 144, 192, generator=torch.manual_seed(0)) * 20
    frames = torch.stack([shifted.first, shifted.second])
    grainy = (frames + grain).round().clamp(0, 255).to(torch.uint8)
    miss = []
    for finest_scale in (0, 1):
        config = FlowConfig(method="raft-mini", refine="dis", finest_scale=finest_scale)
        flow = FlowEstimator(config, CPU).pairs(grainy, [(0, 1)])[0].float()
        miss.append(float((flow - shifted.forward).norm(dim=0)[16:-16, 16:-16].median()))
    assert miss[1] < 0.8 * miss[0]


def test_raft_mini_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(raft, "RAFT_MINI", tmp_path / "raft-mini.safetensors")
    with pytest.raises(WeightsError, match=r"raft-mini\.safetensors: is missing; restore it"):
        raft.load_raft("raft-mini", "", CPU)


def test_bundled_raft_mini_is_small_and_torchvisions():
    assert RAFT_MINI.stat().st_size <= 4e6
    assert load_file(RAFT_MINI).keys() == raft_small(weights=None).state_dict().keys()


def test_raft_mini_finds_a_shift_to_a_pixel_and_refined_to_a_tenth(shifted):
    frames = torch.stack([shifted.first, shifted.second])
    miss = {}
    for refine in ("none", "dis", "best"):
        flow = FlowEstimator(FlowConfig(method="raft-mini", refine=refine), CPU).pairs(frames, [(0, 1)])[0]
        miss[refine] = float((flow.float() - shifted.forward).norm(dim=0)[24:-24, 24:-24].mean())
    assert miss["none"] < 1
    assert miss["dis"] < 0.1
    assert miss["best"] < 0.1


def test_best_takes_dis_where_raft_is_lost(shifted, monkeypatch):
    def lost(model, frames, pairs, updates, device, progress, empty):
        return torch.full((len(pairs), 2, *frames.shape[-2:]), 40.0, dtype=torch.float16)

    monkeypatch.setattr(raft, "load_raft", lambda *_: object())
    monkeypatch.setattr(raft, "raft_flow_pairs", lost)
    monkeypatch.setattr(search, "refine_flow", lambda first, second, start, *_, **__: start.float())
    frames = torch.stack([shifted.first, shifted.second])
    miss = {}
    for refine in ("none", "dis", "best"):
        flow = FlowEstimator(FlowConfig(method="raft-small", refine=refine), CPU).pairs(frames, [(0, 1)])[0]
        miss[refine] = float((flow.float() - shifted.forward).norm(dim=0)[16:-16, 16:-16].max())
    assert miss["none"] == miss["dis"] > 30
    assert miss["best"] < 0.5


def test_best_takes_raft_where_dis_is_lost(shifted, monkeypatch):
    def right(model, frames, pairs, updates, device, progress, empty):
        return shifted.forward[None].half()

    monkeypatch.setattr(raft, "load_raft", lambda *_: object())
    monkeypatch.setattr(raft, "raft_flow_pairs", right)
    monkeypatch.setattr(search, "refine_flow", lambda first, second, start, *_, **__: start.float())
    monkeypatch.setattr(search, "dis_flow", lambda first, *_: torch.full((2, *first.shape[-2:]), 40.0))
    frames = torch.stack([shifted.first, shifted.second])
    flow = FlowEstimator(FlowConfig(method="raft-small", refine="best"), CPU).pairs(frames, [(0, 1)])[0]
    assert torch.equal(flow.float()[:, 16:-16, 16:-16], shifted.forward[:, 16:-16, 16:-16])


def test_progress_is_full_only_once_flow_is_refined(shifted):
    seen: list[tuple[int, int]] = []
    frames = torch.stack([shifted.first, shifted.second])
    config = FlowConfig(method="raft-mini", refine="best", updates=1)
    FlowEstimator(config, CPU).pairs(frames, [(0, 1), (1, 0)], lambda *done: seen.append(done))
    assert seen == [(0, 2), (1, 2), (1, 2), (2, 2)]
