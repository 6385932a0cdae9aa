"""The training loop: interrupted or not, it comes to the same weights."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from t4g_tracker.errors import CacheError, ConfigError
from t4g_tracker.training.trainer import CHECKPOINT, HISTORY, TrainerConfig, TrainingRun, one_cycle, train

CONFIG = TrainerConfig(
    steps=40, batch=2, learning_rate=0.05, weight_decay=0, averaging=0.5, validate_every=10, workers=0
)


@dataclass(frozen=True)
class Batch:
    x: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.x.to(device))


class Lines(Dataset[Tensor]):
    """Item i is a point on the line y = 3 x - 1."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        x = (item[0] - 8) / 8
        return torch.tensor([x, 3 * x - 1])


class Fit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (self.line(batch.x[:, :1]) - batch.x[:, 1:]).square().mean()}


def fit(folder: Path, config: TrainerConfig = CONFIG, stop=lambda: False, **options):
    run = TrainingRun(folder, torch.device("cpu"), stop=stop, **options)
    return train(
        Fit(),
        Lines(),
        lambda points: Batch(torch.stack(points)),
        config,
        run,
        lambda averaged: {"slope": float(averaged.line.weight.detach())},
        {"what": "line"},
    )


def stop_after(steps: int):
    calls = itertools.count()
    return lambda: next(calls) >= steps


def test_training_finds_the_line(tmp_path):
    config = TrainerConfig(
        steps=400, batch=8, learning_rate=0.1, weight_decay=0, averaging=0.5, validate_every=100, workers=0
    )
    averaged, finished = fit(tmp_path, config)
    assert finished
    assert float(averaged.line.weight.detach()) == pytest.approx(3, abs=0.05)
    assert float(averaged.line.bias.detach()) == pytest.approx(-1, abs=0.05)


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    whole, _ = fit(tmp_path / "whole")
    _, finished = fit(tmp_path / "parts", stop=stop_after(13))
    assert not finished
    parts, finished = fit(tmp_path / "parts")
    assert finished
    assert torch.equal(parts.line.weight, whole.line.weight)
    assert torch.equal(parts.line.bias, whole.line.bias)


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path):
    fit(tmp_path, stop=stop_after(3))
    other = TrainerConfig(steps=41, batch=2, validate_every=10, workers=0)
    with pytest.raises(CacheError, match=CHECKPOINT):
        fit(tmp_path, other)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"half a file")
    with pytest.raises(CacheError, match="damaged"):
        fit(tmp_path)


def test_a_time_budget_ends_training_before_its_steps(tmp_path):
    config = TrainerConfig(steps=10**9, batch=2, validate_every=10**6, workers=0)
    _, finished = fit(tmp_path, config, time_budget_s=0.3)
    assert finished
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert 0 < kept["step"] < 10**6
    assert kept["seconds"] < 30


def test_history_records_the_loss_and_what_validation_found(tmp_path):
    fit(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1]["slope"] > rows[0]["slope"]


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    class Broken(Fit):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            return {"loss": super().forward(batch)["loss"] * float("nan")}

    run = TrainingRun(tmp_path, torch.device("cpu"))
    with pytest.raises(FloatingPointError, match="diverged"):
        train(Broken(), Lines(), lambda p: Batch(torch.stack(p)), CONFIG, run, lambda a: {}, {})


def test_one_cycle_rises_then_falls_to_nothing():
    rates = [one_cycle(share / 100, 0.1) for share in range(101)]
    assert rates.index(max(rates)) == 10
    assert max(rates) == pytest.approx(1)
    assert rates[0] == pytest.approx(0.04)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"averaging": 1.0}, {"batch": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        TrainerConfig(**wrong)
