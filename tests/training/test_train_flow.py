"""``t4g train-flow`` writes weights that the tracker loads, and refuses a foreign checkpoint."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file

from t4g_tracker.commands.train_flow import main as train_flow
from t4g_tracker.flow import raft
from t4g_tracker.training.flow.objective import new_raft, save_raft

CPU = torch.device("cpu")


def test_train_flow_writes_weights_that_the_tracker_loads_and_trains_further(tmp_path):
    arguments = ["--out", str(tmp_path), "--device", "cpu", "--quiet", "--set", "validation=1"]
    arguments += ["pairs.count=2", "pairs.height=160", "pairs.width=192", "pairs.crop_width=128"]
    arguments += ["objective.updates=1", "trainer.batch=1", "trainer.workers=0", "trainer.validate_every=2"]
    assert train_flow([*arguments, "trainer.steps=2"]) == 0
    path = tmp_path / "raft-mini.safetensors"
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert path.stat().st_size <= 4e6
    model = raft.load_raft("raft-small", str(path), CPU)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    last = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[-1])
    assert last["val_epe"] > 0  # nobody guesses flow without any error
    assert last["val_median"] > 0
    again = [*arguments, "trainer.steps=1", "--from", str(path), "--out", str(tmp_path / "again")]
    assert train_flow(again) == 0


def test_train_flow_refuses_a_checkpoint_that_began_with_other_weights(tmp_path, capsys):
    start = tmp_path / "start.safetensors"
    arguments = ["--out", str(tmp_path / "out"), "--from", str(start), "--device", "cpu", "--quiet"]
    arguments += ["--set", "validation=1", "pairs.count=1", "pairs.height=160", "pairs.width=192"]
    arguments += ["pairs.crop_width=128", "objective.updates=1", "trainer.batch=1", "trainer.steps=1"]
    save_raft(new_raft("", seed=0), start)
    assert train_flow([*arguments, "trainer.workers=0"]) == 0
    save_raft(new_raft("", seed=1), start)
    assert train_flow([*arguments, "trainer.workers=0"]) == 2
    assert "was made with start=" in capsys.readouterr().err
    start.unlink()
    assert train_flow(arguments) == 2
    assert f"--from: {start}: no such file" in capsys.readouterr().err
