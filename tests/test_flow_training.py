"""Training of optical flow: the loss, the views, what a few steps do; flow made precise afterwards."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import interpolate
from torchvision.models.optical_flow import raft_small

import t4g_tracker.flow.estimator as flow_module
from t4g_tracker.bundled import RAFT_MINI
from t4g_tracker.commands import train_flow as flow_commands
from t4g_tracker.commands.bench_flow import bench_flow, score_flow
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.flow import raft
from t4g_tracker.flow.choice import best_flow, colour_misfit
from t4g_tracker.flow.dis import dis_flow, refine_flow
from t4g_tracker.flow.estimator import FlowEstimator, resolve_flow
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.synthetic.clips import FlowPair
from t4g_tracker.training.flow.objective import (
    FlowObjective,
    FlowObjectiveConfig,
    flow_both_ways,
    new_raft,
    sequence_loss,
)
from t4g_tracker.training.flow.views import FlowViews, PairsConfig, collate_pairs, look_at_pair

CPU = torch.device("cpu")
SMALL = PairsConfig(count=2, height=160, width=192, crop_height=128, crop_width=128, relit=0, erased=0)


def _texture(height, width, seed=0):
    """(3, height, width) uint8, smooth and without repetition."""
    noise = torch.rand(1, 3, height // 6, width // 6, generator=torch.manual_seed(seed))
    smooth = interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)[0]
    return (smooth.clamp(0, 1) * 255).to(torch.uint8)


@pytest.fixture
def shifted():
    """A picture that moves by 5 px to the right and 3 px down."""
    whole = _texture(180, 240)
    first, second = whole[:, 10:154, 20:212], whole[:, 7:151, 15:207]
    forward = torch.tensor([5.0, 3.0])[:, None, None].expand(2, 144, 192)
    seen = torch.ones(144, 192, dtype=torch.bool)
    return FlowPair(first, second, forward, -forward, seen, seen)


def test_later_updates_and_heavier_pixels_count_more():
    truth, weight = torch.zeros(1, 2, 1, 2), torch.tensor([[[1.0, 3.0]]])
    found = torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]])  # 2 px off in the first pixel, right in the second
    late = sequence_loss([truth, found], truth, weight, 0.8, 1.0)
    early = sequence_loss([found, truth], truth, weight, 0.8, 1.0)
    nothing = sequence_loss([truth, truth], truth, weight, 0.8, 1.0)
    torch.testing.assert_close(late - nothing, torch.tensor((2 - 0.01) / 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(early - nothing, 0.8 * (late - nothing))


def test_a_view_shows_the_motion_that_its_flow_states(shifted):
    for seed in range(8):
        view = look_at_pair(shifted, SMALL, torch.Generator().manual_seed(seed))
        middle = (slice(None), slice(None), slice(24, -24), slice(24, -24))
        for start in (0, 1):
            measured = dis_flow(view.images[0, start], view.images[0, 1 - start])
            miss = (measured - view.flow[0, start])[None][middle].norm(dim=1)
            assert float(miss.median()) < 0.3


def test_a_pair_gives_several_views_which_no_other_draw_repeats():
    views = FlowViews(replace(SMALL, views=3), seed=0)
    first, again, later = views[0, 0], views[0, 0], views[0, 1]
    assert first.images.shape == (3, 2, 3, 128, 128)
    assert torch.equal(first.images, again.images)
    looks = [*first.images, *later.images]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(looks, 2))
    assert collate_pairs([first, later]).flow.shape == (6, 2, 2, 128, 128)


def test_points_that_leave_a_view_count_as_not_seen(shifted):
    view = look_at_pair(shifted, SMALL, torch.Generator().manual_seed(0))
    assert 0.8 < float(view.seen.float().mean()) < 1  # the pair itself says that all are seen


def test_a_kept_pair_is_the_pair_that_was_drawn(tmp_path):
    drawn = FlowViews(SMALL, seed=3).pair(1)
    views = FlowViews(SMALL, seed=3, folder=tmp_path)
    views.pair(1)
    kept = views.pair(1)
    assert torch.equal(kept.first, drawn.first)
    assert torch.equal(kept.backward_valid, drawn.backward_valid)
    torch.testing.assert_close(kept.forward, drawn.forward, atol=1e-3, rtol=1e-3)


def test_both_ways_are_two_plain_calls_of_the_model():
    torch.manual_seed(0)
    model = raft_small(weights=None).eval()
    first, second = (torch.rand(1, 3, 128, 136) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        there, back = flow_both_ways(model, first, second, 2)[-1]
        torch.testing.assert_close(
            there, model(first, second, num_flow_updates=2)[-1][0], atol=1e-3, rtol=1e-3
        )
        torch.testing.assert_close(
            back, model(second, first, num_flow_updates=2)[-1][0], atol=1e-3, rtol=1e-3
        )


def test_a_few_steps_on_one_pair_lower_its_loss(shifted):
    torch.manual_seed(0)
    objective = FlowObjective(raft_small(weights=None), FlowObjectiveConfig(updates=1))
    batch = collate_pairs([look_at_pair(shifted, SMALL, torch.Generator().manual_seed(0))])
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    losses = []
    for _ in range(24):
        loss = objective(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_train_flow_writes_weights_that_the_tracker_loads_and_goes_on_from(tmp_path):
    arguments = ["--out", str(tmp_path), "--device", "cpu", "--quiet", "--set", "validation=1"]
    arguments += ["pairs.count=2", "pairs.height=160", "pairs.width=192", "pairs.crop_width=128"]
    arguments += ["objective.updates=1", "trainer.batch=1", "trainer.workers=0", "trainer.validate_every=2"]
    assert flow_commands.train_flow([*arguments, "trainer.steps=2"]) == 0
    path = tmp_path / "raft-mini.safetensors"
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert path.stat().st_size <= 4e6
    model = raft.load_raft("raft-small", str(path), CPU)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    last = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[-1])
    assert last["val_epe"] > 0  # nobody guesses flow without any error
    assert last["val_median"] > 0
    again = [*arguments, "trainer.steps=1", "--from", str(path), "--out", str(tmp_path / "again")]
    assert flow_commands.train_flow(again) == 0


def test_train_flow_refuses_a_checkpoint_that_began_with_other_weights(tmp_path, capsys):
    start = tmp_path / "start.safetensors"
    arguments = ["--out", str(tmp_path / "out"), "--from", str(start), "--device", "cpu", "--quiet"]
    arguments += ["--set", "validation=1", "pairs.count=1", "pairs.height=160", "pairs.width=192"]
    arguments += ["pairs.crop_width=128", "objective.updates=1", "trainer.batch=1", "trainer.steps=1"]
    flow_commands.save_raft(new_raft("", seed=0), start)
    assert flow_commands.train_flow([*arguments, "trainer.workers=0"]) == 0
    flow_commands.save_raft(new_raft("", seed=1), start)
    assert flow_commands.train_flow([*arguments, "trainer.workers=0"]) == 2
    assert "was made with start=" in capsys.readouterr().err
    start.unlink()
    assert flow_commands.train_flow(arguments) == 2
    assert f"--from: {start}: no such file" in capsys.readouterr().err


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


def test_raft_at_half_size_answers_in_pixels_of_the_frames(shifted, monkeypatch):
    def constant(model, frames, pairs, updates, device, progress):
        assert frames.shape[-2:] == (72, 96)
        return torch.full((len(pairs), 2, 72, 96), 2.0, dtype=torch.float16)

    monkeypatch.setattr(raft, "load_raft", lambda *_: None)
    monkeypatch.setattr(raft, "raft_flow_pairs", constant)
    estimator = FlowEstimator(FlowConfig(method="raft-small", raft_scale=0.5), CPU)
    estimator._raft = object()
    flow = estimator.pairs(torch.stack([shifted.first, shifted.second]), [(0, 1)])
    assert flow.shape == (1, 2, 144, 192)
    assert bool((flow == 4).all())


def test_auto_is_published_raft_where_it_is_and_dis_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    assert resolve_flow(FlowConfig()).method == "dis"
    for name in ("raft-small", "raft-large"):
        path = raft.published_file(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        assert resolve_flow(FlowConfig()).method == name
        assert resolve_flow(FlowConfig(method="dis")).method == "dis"
    with pytest.raises(ConfigError, match="say of which model"):
        resolve_flow(FlowConfig(weights="flow.pth"))


def test_scores_are_of_all_pixels_both_ways(shifted):
    scores = score_flow(FlowEstimator(FlowConfig(method="dis"), CPU), [shifted])
    assert scores.median_px < 0.1
    assert scores.within_1px > 0.8
    assert scores.mean_px > scores.median_px  # at the borders, where points leave
    wrong_back = replace(shifted, backward=shifted.backward + torch.tensor([3.0, 4.0])[:, None, None])
    scores = score_flow(FlowEstimator(FlowConfig(method="dis"), CPU), [wrong_back])
    assert scores.within_1px == pytest.approx(0.5, abs=0.1)  # right ahead, off by 5 px on the way back


def test_bench_flow_has_a_row_for_every_method_and_for_what_is_set(capsys):
    size = ["--pairs", "1", "--height", "128", "--width", "160", "--device", "cpu"]
    assert bench_flow([*size, "--set", "flow.method=dis", "finest_scale=1"]) == 0
    heading, _, *rows = capsys.readouterr().out.splitlines()
    table = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in rows}
    assert list(table) == [
        "DIS, medium preset",
        "DIS at full size",
        "raft-mini",
        "raft-mini at half size",
        "raft-mini at half size, refine=dis",
        "raft-mini at half size, refine=best",
        "raft-mini at half size, refine=dis finest_scale=1",
        "method=dis finest_scale=1",
    ]
    assert table["method=dis finest_scale=1"][:-1] == table["DIS, medium preset"][:-1]  # but for the time
    assert {len(cells) for cells in table.values()} == {heading.count("|") - 2}
    assert len({cells[0] for cells in table.values()}) > 3
    assert bench_flow(["--pairs", "0"]) == 2
    assert "--pairs must be at least 1" in capsys.readouterr().err


def test_raft_mini_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(raft, "RAFT_MINI", tmp_path / "raft-mini.safetensors")
    with pytest.raises(WeightsError, match=r"raft-mini\.safetensors: is missing; bring it back"):
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


def test_of_two_flows_each_pixel_gets_the_one_that_is_right_there(shifted):
    wrong = shifted.forward + torch.tensor([9.0, -4.0])[:, None, None]
    left = (torch.arange(192) < 96).expand(2, 144, 192)
    right = shifted.forward
    flows = torch.stack([torch.where(left, right, wrong), torch.where(left, wrong, right)])
    for candidates in (flows, flows.flip(0)):
        chosen = best_flow(shifted.first, shifted.second, candidates)
        miss = (chosen - shifted.forward).norm(dim=0)[16:-16, 16:-16]
        assert float((miss == 0).float().mean()) > 0.97  # at the seam windows hold something of both
    assert torch.equal(best_flow(shifted.first, shifted.second, flows[:1]), flows[0])


def test_frames_fit_where_the_flow_is_right_and_only_there(shifted):
    right = colour_misfit(shifted.first, shifted.second, shifted.forward)
    assert float(right[16:-16, 16:-16].max()) < 1e-3
    wrong = colour_misfit(shifted.first, shifted.second, shifted.forward + 6)
    assert 1 < float(wrong[16:-16, 16:-16].median()) <= 255


def test_best_takes_dis_where_raft_is_lost(shifted, monkeypatch):
    def lost(model, frames, pairs, updates, device, progress):
        return torch.full((len(pairs), 2, *frames.shape[-2:]), 40.0, dtype=torch.float16)

    monkeypatch.setattr(raft, "load_raft", lambda *_: object())
    monkeypatch.setattr(raft, "raft_flow_pairs", lost)
    monkeypatch.setattr(flow_module, "refine_flow", lambda first, second, start, _: start.float())
    frames = torch.stack([shifted.first, shifted.second])
    miss = {}
    for refine in ("none", "dis", "best"):
        flow = FlowEstimator(FlowConfig(method="raft-small", refine=refine), CPU).pairs(frames, [(0, 1)])[0]
        miss[refine] = float((flow.float() - shifted.forward).norm(dim=0)[16:-16, 16:-16].max())
    assert miss["none"] == miss["dis"] > 30
    assert miss["best"] < 0.5


def test_best_takes_raft_where_dis_is_lost(shifted, monkeypatch):
    def right(model, frames, pairs, updates, device, progress):
        return shifted.forward[None].half()

    monkeypatch.setattr(raft, "load_raft", lambda *_: object())
    monkeypatch.setattr(raft, "raft_flow_pairs", right)
    monkeypatch.setattr(flow_module, "refine_flow", lambda first, second, start, _: start.float())
    monkeypatch.setattr(flow_module, "dis_flow", lambda *_: torch.full((2, 144, 192), 40.0))
    frames = torch.stack([shifted.first, shifted.second])
    flow = FlowEstimator(FlowConfig(method="raft-small", refine="best"), CPU).pairs(frames, [(0, 1)])[0]
    assert torch.equal(flow.float()[:, 16:-16, 16:-16], shifted.forward[:, 16:-16, 16:-16])


def test_misfit_is_a_mean_difference_of_colours_up_to_the_corners():
    black, white = torch.zeros(3, 20, 30, dtype=torch.uint8), torch.full((3, 20, 30), 255, dtype=torch.uint8)
    beyond = torch.full((2, 20, 30), 50.0)
    torch.testing.assert_close(colour_misfit(black, white, beyond * 0), torch.full((20, 30), 255.0))
    torch.testing.assert_close(colour_misfit(white, white, beyond), torch.zeros(20, 30), atol=1e-3, rtol=0)
    flows = torch.stack([beyond, -beyond]).half()
    assert torch.equal(best_flow(black, black, flows), flows[0])  # fits alike: the earlier one, in its type


def test_progress_is_full_only_once_flow_is_refined(shifted):
    seen: list[tuple[int, int]] = []
    frames = torch.stack([shifted.first, shifted.second])
    config = FlowConfig(method="raft-mini", refine="best", updates=1)
    FlowEstimator(config, CPU).pairs(frames, [(0, 1), (1, 0)], lambda *done: seen.append(done))
    assert seen == [(0, 2), (1, 2), (1, 2), (2, 2)]
