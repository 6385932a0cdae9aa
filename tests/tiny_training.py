"""A training small enough for tests: a line is fitted to sixteen points on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from t4g_tracker.training.loop.settings import TrainerConfig
from t4g_tracker.training.loop.trainer import CHECKPOINT, TrainingRun, train

CONFIG = TrainerConfig(
    steps=40, batch=2, learning_rate=0.05, weight_decay=0, averaging=0.5, validate_every=10, workers=0
)


@dataclass(frozen=True)
class Batch:
    x: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.x.to(device))


def stack(points: list[Tensor]) -> Batch:
    return Batch(torch.stack(points))


class Lines(Dataset[Tensor]):
    """Item i is a point on the line y = 3 x - 1."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        x = (item[0] - 8) / 8
        return torch.tensor([x, 3 * x - 1])


class Fit(nn.Module):
    """A line, fitted to inputs with a little noise, and a norm that keeps statistics of them."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.norm = nn.Linear(1, 1), nn.BatchNorm1d(1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.x[:, :1] + 0.001 * torch.randn_like(batch.x[:, :1])
        self.norm(x)
        return {"loss": (self.line(x) - batch.x[:, 1:]).square().mean()}


def slope(averaged: nn.Module) -> dict[str, float]:
    return {"slope": float(averaged.line.weight.detach())}


def fit(
    folder: Path,
    config: TrainerConfig = CONFIG,
    items: Dataset[Tensor] | None = None,
    objective: nn.Module | None = None,
    validate=slope,
    **options,
) -> tuple[nn.Module, bool]:
    run = TrainingRun(folder, torch.device("cpu"), **options)
    return train(objective or Fit(), items or Lines(), stack, config, run, validate, {"what": "line"})


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / CHECKPOINT, weights_only=True)


def assert_same(first: nn.Module, second: nn.Module) -> None:
    for (name, one), two in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
