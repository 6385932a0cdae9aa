"""The training loop: interrupted or not, it ends with the same weights."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_training import CONFIG, Batch, Fit, assert_same, checkpoint, fit
from torch import Tensor

from t4g_tracker.errors import CacheError, ConfigError, OutputError, TrainingError
from t4g_tracker.storage.files import locked_folder
from t4g_tracker.storage.torch_files import load_torch, save_torch
from t4g_tracker.training.loop import trainer
from t4g_tracker.training.loop.batches import ItemOrder
from t4g_tracker.training.loop.optimisation import one_cycle
from t4g_tracker.training.loop.settings import TrainerConfig
from t4g_tracker.training.loop.trainer import CHECKPOINT, HISTORY


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
    assert_same(parts, whole)


FIT_PLAINLY = """
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from tests.tiny_training import CONFIG, Lines, stack
from t4g_tracker.commands.training_arguments import end_together
from t4g_tracker.training.loop import trainer
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
# the main process's choice counts, whatever fits on the others
trainer.fitting_batch = lambda *_: batch + 7 * int(os.environ.get("RANK", 0))
run = TrainingRun(folder, torch.device("cpu"))
config = replace(CONFIG, steps=10, batch=None, precision="float32")
train(Plain(), Lines(), stack, config, run, lambda averaged: {}, {})
end_together()
"""


def test_two_processes_end_with_the_weights_of_one_with_twice_the_batch(tmp_path):
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
        order = ItemOrder(count=16, batch=2, processes=2, process=process, seed=3)
        taken += [index for step in range(4) for index, _ in order.at_step(step)]
    assert sorted(taken) == list(range(16))


def test_every_epoch_has_an_order_of_its_own_and_a_batch_may_lie_in_two():
    order = ItemOrder(count=5, batch=3, processes=1, process=0, seed=3)
    items = [item for step in range(5) for item in order.at_step(step)]
    assert [place for _, place in items] == list(range(15))
    epochs = [[index for index, _ in items[begin : begin + 5]] for begin in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_checkpoint_of_other_settings_is_refused_and_both_values_are_named(tmp_path):
    fit(tmp_path, stop=stop_after(3))
    with pytest.raises(CacheError, match=rf"{CHECKPOINT}: .*with trainer\.batch=2 and not 4;"):
        fit(tmp_path, replace(CONFIG, batch=4))


def test_steps_and_what_does_not_touch_the_weights_may_change_on_the_way(tmp_path):
    fit(tmp_path, stop=stop_after(3))
    _, finished = fit(tmp_path, replace(CONFIG, steps=41, validate_every=7, save_every_s=1.0, workers=1))
    assert finished
    assert checkpoint(tmp_path)["step"] == 41


def test_a_batch_that_was_chosen_stays_when_other_memory_is_free_at_the_resume(tmp_path, monkeypatch):
    config = replace(CONFIG, batch=None)
    fit(tmp_path / "whole", replace(CONFIG, batch=2))
    for fitting in (2, 4):
        monkeypatch.setattr(trainer, "fitting_batch", lambda *_, fitting=fitting: fitting)
        _, finished = fit(tmp_path / "parts", config, stop=stop_after(13 if fitting == 2 else 99))
    assert finished
    whole, parts = (checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert json.loads(parts["identity"])["trainer"]["batch"] == 2
    assert all(torch.equal(value, whole["model"][name]) for name, value in parts["model"].items())


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path):
    fit(tmp_path, stop=stop_after(3))
    saved = load_torch(tmp_path / CHECKPOINT, "", "")
    del saved["model"]["line.bias"]
    save_torch(tmp_path / CHECKPOINT, saved, "")
    with pytest.raises(CacheError, match=rf"{CHECKPOINT}: does not fit the model"):
        fit(tmp_path)


def test_two_trainings_do_not_write_to_one_folder(tmp_path):
    with locked_folder(tmp_path), pytest.raises(OutputError, match=r"another run is writing to it; .* --out"):
        fit(tmp_path)


def test_a_checkpoint_that_was_changed_is_refused_by_name(tmp_path):
    fit(tmp_path, stop=stop_after(3))
    saved = checkpoint(tmp_path)
    saved["model"]["line.bias"] += 1
    torch.save(saved, tmp_path / CHECKPOINT)
    said = rf"{CHECKPOINT}: is damaged, its content is not what was saved; delete it, or give another --out"
    with pytest.raises(CacheError, match=said):
        fit(tmp_path)


def test_a_step_without_a_finite_gradient_changes_nothing(tmp_path):
    class Flicker(Fit):
        step = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            self.step += 1
            return super().forward(Batch(batch.x * float("nan")) if self.step == 5 else batch)

    averaged, finished = fit(tmp_path, objective=Flicker())
    assert finished
    assert averaged.norm.running_var.isfinite().all()
    assert all(value.isfinite().all() for value in checkpoint(tmp_path)["model"].values())


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"half a file")
    with pytest.raises(CacheError, match="damaged"):
        fit(tmp_path)


def test_a_time_budget_ends_training_before_its_steps(tmp_path, monkeypatch):
    clock = itertools.count()  # a second later whenever it is read
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    config = replace(CONFIG, steps=10**9, validate_every=10**6, save_every_s=10**6)
    _, finished = fit(tmp_path, config, time_budget_s=50.0)
    assert finished
    saved = checkpoint(tmp_path)
    assert 10 < saved["step"] < 50
    assert 50 <= saved["seconds"] < 55


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


def test_the_largest_seed_has_weights_of_its_own(tmp_path):
    first, second, zero = (
        fit(tmp_path / name, seed=seed)[0] for name, seed in (("a", 2**63 - 1), ("b", 2**63 - 1), ("c", 0))
    )
    assert_same(first, second)
    assert not torch.equal(first.line.weight, zero.line.weight)


def test_the_weights_that_are_returned_are_validated(tmp_path):
    averaged, _ = fit(tmp_path, replace(CONFIG, steps=13))
    last = json.loads((tmp_path / HISTORY).read_text().splitlines()[-1])
    assert (last["step"], last["slope"]) == (13, float(averaged.line.weight.detach()))


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    class Broken(Fit):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            return {"loss": super().forward(batch)["loss"] * float("nan")}

    with pytest.raises(TrainingError, match="diverged"):
        fit(tmp_path, objective=Broken())


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
