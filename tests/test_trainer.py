"""The training loop: interrupted or not, it comes to the same weights."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from t4g_tracker.errors import CacheError, ConfigError, OutputError, TrainingError
from t4g_tracker.training.loop.batches import Turns, worker_loss_told
from t4g_tracker.training.loop.trainer import (
    CHECKPOINT,
    HISTORY,
    TrainerConfig,
    TrainingRun,
    drawing_workers,
    one_cycle,
    train,
)

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
    assert torch.equal(parts.norm.running_var, whole.norm.running_var)


def test_a_training_that_draws_its_items_in_another_process_can_be_interrupted_too(tmp_path):
    config = replace(CONFIG, steps=12, workers=1)
    whole, _ = fit(tmp_path / "whole", config)
    fit(tmp_path / "parts", config, stop=stop_after(5))
    parts, _ = fit(tmp_path / "parts", config)
    assert torch.equal(parts.line.weight, whole.line.weight)


def test_beside_a_gpu_every_core_but_one_draws_and_beside_a_cpu_one_process_does(monkeypatch):
    monkeypatch.setattr("t4g_tracker.training.loop.trainer.cores", lambda: 16)
    gpu = torch.device("cuda")
    assert [drawing_workers(gpu, processes) for processes in (1, 4, 16)] == [8, 3, 1]
    assert drawing_workers(torch.device("cpu"), 1) == 1


FIT_PLAINLY = """
import sys
from pathlib import Path

import torch
from torch import nn
from tests.test_trainer import CONFIG, Batch, Lines
from t4g_tracker.commands.training_arguments import end_together
from t4g_tracker.training.loop.trainer import TrainingRun, train
from dataclasses import replace


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, batch):
        return {"loss": (self.line(batch.x[:, :1]) - batch.x[:, 1:]).square().mean()}


folder, batch = Path(sys.argv[1]), int(sys.argv[2])
run = TrainingRun(folder, torch.device("cpu"))
collate = lambda points: Batch(torch.stack(points))
config = replace(CONFIG, steps=10, batch=batch, precision="float32")
train(Plain(), Lines(), collate, config, run, lambda averaged: {}, {})
end_together()
"""


def test_two_processes_come_to_what_one_comes_to_with_twice_the_batch(tmp_path):
    script = tmp_path / "fit.py"
    script.write_text(FIT_PLAINLY)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    for command, batch in ((launch, 2), ([sys.executable], 4)):
        folder = tmp_path / str(batch)
        done = subprocess.run(
            [*command, script, folder, str(batch)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    two, one = (torch.load(tmp_path / batch / CHECKPOINT, weights_only=True)["model"] for batch in "24")
    assert abs(float(one["line.weight"])) > 0.1  # it has learned something
    torch.testing.assert_close(two, one)


def test_processes_share_an_epoch_without_taking_an_item_twice():
    taken = []
    for process in range(2):
        turns = iter(Turns(count=16, batch=2, processes=2, process=process, start=0, seed=3))
        taken.append([index for index, _ in itertools.islice(turns, 8)])
    assert sorted(taken[0] + taken[1]) == list(range(16))


def test_a_process_goes_on_with_the_items_it_would_have_taken():
    whole = list(itertools.islice(iter(Turns(16, 2, 2, 1, start=0, seed=3)), 40))
    rest = list(itertools.islice(iter(Turns(16, 2, 2, 1, start=7, seed=3)), 26))
    assert whole[14:] == rest


def test_a_checkpoint_of_other_settings_is_refused_and_both_values_are_named(tmp_path):
    fit(tmp_path, stop=stop_after(3))
    with pytest.raises(CacheError, match=rf"{CHECKPOINT}: .*with trainer\.batch=2 and not 4;"):
        fit(tmp_path, replace(CONFIG, batch=4))


def test_steps_and_what_does_not_touch_the_weights_may_change_on_the_way(tmp_path):
    fit(tmp_path, stop=stop_after(3))
    _, finished = fit(tmp_path, replace(CONFIG, steps=41, validate_every=7, save_every_s=1.0, workers=1))
    assert finished
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 41


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path):
    fit(tmp_path, stop=stop_after(3))
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del kept["model"]["line.bias"]
    torch.save(kept, tmp_path / CHECKPOINT)
    with pytest.raises(CacheError, match=rf"{CHECKPOINT}: does not fit the model"):
        fit(tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_drawing_is_told_as_it_was_raised_and_the_state_is_kept(tmp_path, workers):
    class Full(Lines):
        def __getitem__(self, item: tuple[int, int]) -> Tensor:
            if item[1] >= 2 * CONFIG.batch:
                raise OutputError("clips: the disk is full")
            return super().__getitem__(item)

    run = TrainingRun(tmp_path, torch.device("cpu"))
    config = replace(CONFIG, workers=workers)
    with pytest.raises(OutputError) as caught:
        train(Fit(), Full(), lambda p: Batch(torch.stack(p)), config, run, lambda a: {}, {})
    assert str(caught.value) == "clips: the disk is full"
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 2


def test_a_drawing_process_that_is_killed_is_one_line_and_the_state_is_kept(tmp_path):
    class Killed(Lines):
        def __getitem__(self, item: tuple[int, int]) -> Tensor:
            if item[1] >= 40 * CONFIG.batch:  # well beyond what is drawn ahead of the first steps
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(item)

    run = TrainingRun(tmp_path, torch.device("cpu"))
    config = replace(CONFIG, steps=400, workers=1)
    with pytest.raises(TrainingError, match=r"ended from outside.*trainer\.workers"), worker_loss_told():
        train(Fit(), Killed(), lambda p: Batch(torch.stack(p)), config, run, lambda a: {}, {})


def test_a_step_without_a_finite_gradient_changes_nothing(tmp_path):
    class Flicker(Fit):
        step = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            self.step += 1
            return super().forward(Batch(batch.x * float("nan")) if self.step == 5 else batch)

    run = TrainingRun(tmp_path, torch.device("cpu"))
    averaged, finished = train(
        Flicker(), Lines(), lambda p: Batch(torch.stack(p)), CONFIG, run, lambda a: {}, {}
    )
    assert finished
    assert averaged.norm.running_var.isfinite().all()
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert all(value.isfinite().all() for value in kept["model"].values())


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


def test_history_has_every_step_once_after_a_kill(tmp_path):
    """Steps after the last checkpoint are taken again, and so are their lines."""
    fit(tmp_path, stop=stop_after(20))
    lines = (tmp_path / HISTORY).read_text()
    with (tmp_path / HISTORY).open("a") as file:
        file.write('{"step": 30, "seconds": 1.0}\n{"step": 40, "sec')  # killed while it wrote
    fit(tmp_path)
    after = (tmp_path / HISTORY).read_text()
    assert [json.loads(line)["step"] for line in after.splitlines()] == [10, 20, 30, 40]
    assert after.startswith(lines)


def test_any_seed_will_do(tmp_path):
    averaged, _ = fit(tmp_path, seed=2**63 - 1)
    assert averaged.line.weight.isfinite().all()


def test_the_weights_that_are_kept_are_measured(tmp_path):
    averaged, _ = fit(tmp_path, replace(CONFIG, steps=13))
    last = json.loads((tmp_path / HISTORY).read_text().splitlines()[-1])
    assert (last["step"], last["slope"]) == (13, float(averaged.line.weight.detach()))


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    class Broken(Fit):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            return {"loss": super().forward(batch)["loss"] * float("nan")}

    run = TrainingRun(tmp_path, torch.device("cpu"))
    with pytest.raises(TrainingError, match="diverged"):
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
