"""``t4g train-flow``: arguments, settings and what it writes."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torchvision.models.optical_flow import RAFT

from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.training_arguments import (
    add_training_arguments,
    ending_together,
    is_main_process,
    run_training,
)
from t4g_tracker.config import read_settings
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.files import atomic_write
from t4g_tracker.synthetic.clips import CLIPS_VERSION, val_pairs
from t4g_tracker.training.flow.objective import FlowObjective, FlowObjectiveConfig, FlowValidation, new_raft
from t4g_tracker.training.flow.views import FlowViews, PairsConfig, collate_pairs
from t4g_tracker.training.loop.frozen import weights_digest
from t4g_tracker.training.loop.items import check_room
from t4g_tracker.training.loop.trainer import TrainerConfig

WEIGHTS = "raft-mini.safetensors"
VALIDATION_SIZE = (240, 432)


@dataclass(frozen=True, kw_only=True)
class FlowTraining:
    """Settings of ``t4g train-flow``."""

    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(batch=2, learning_rate=4e-4, validate_every=500)
    )
    pairs: PairsConfig = field(default_factory=PairsConfig)
    objective: FlowObjectiveConfig = field(default_factory=FlowObjectiveConfig)
    validation: int = 8  # pairs to measure progress on

    def __post_init__(self) -> None:
        if self.validation < 1:
            raise ConfigError(f"validation must be at least 1, got {self.validation}")


def train_flow(argv: list[str] | None = None) -> int:
    """``t4g train-flow``: returns the exit code."""
    return guarded(_train_flow, argv)


@ending_together
def _train_flow(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="t4g train-flow",
        description="Train torchvision's raft_small on synthetic pairs of frames with exact flow. "
        f"Writes OUT/{WEIGHTS}, which flow.method=raft-small flow.weights=FILE reads.",
    )
    parser.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="FILE",
        help="weights to start from: .safetensors or .pth",
    )
    add_training_arguments(parser)
    request = parser.parse_args(argv)
    config = read_settings(FlowTraining(), request.config, request.assignments)
    try:
        model = new_raft(request.source, request.seed)
    except WeightsError as error:
        raise WeightsError(f"--from: {error}") from error
    objective = FlowObjective(model, config.objective)
    if request.keep_clips is not None:
        check_room(request.keep_clips, config.pairs.count, config.pairs.bytes_each, "pairs.count")
    identity = {
        "command": "train-flow",
        "start": weights_digest(model),
        "pairs": {**asdict(config.pairs), "version": CLIPS_VERSION},
        "objective": asdict(config.objective),
    }
    averaged: FlowObjective = run_training(
        request,
        request.out,
        objective,
        FlowViews(config.pairs, request.seed, request.keep_clips),
        collate_pairs,
        config.trainer,
        FlowValidation(val_pairs(config.validation, VALIDATION_SIZE)),
        identity,
    )
    if not is_main_process():
        return 0
    save_raft(averaged.raft, request.out / WEIGHTS)
    print(
        f"weights in {request.out / WEIGHTS}; use them with "
        f"--set flow.method=raft-small flow.weights={request.out / WEIGHTS}"
    )
    return 0


def save_raft(model: RAFT, path: Path) -> None:
    """Write a RAFT's weights in half precision, under torchvision's names."""
    state = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in model.state_dict().items()
    }
    with atomic_write(path) as passing:
        save_file(state, passing)
