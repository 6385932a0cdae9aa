"""``t4g train-flow``: train a small RAFT on synthetic pairs of frames."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from t4g_tracker.commands.parser import Parser
from t4g_tracker.commands.printing import say
from t4g_tracker.commands.training_arguments import (
    add_training_arguments,
    album_of,
    is_main_process,
    run_training,
    training_command,
)
from t4g_tracker.config import read_settings
from t4g_tracker.errors import WeightsError

if TYPE_CHECKING:
    from t4g_tracker.training.flow.settings import FlowTraining

WEIGHTS = "raft-mini.safetensors"
VALIDATION_SIZE = (240, 432)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="t4g train-flow",
        description="Train torchvision's raft_small on synthetic pairs of frames with exact flow. "
        f"Writes OUT/{WEIGHTS}, which flow.method=raft-small flow.weights=FILE reads.",
    )
    parser.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="FILE",
        help="weights to start from: .safetensors or .pth (default: random)",
    )
    add_training_arguments(parser, _settings)
    return parser.parse(argv)


def _settings() -> FlowTraining:
    from t4g_tracker.training.flow.settings import FlowTraining

    return FlowTraining()


def _train(request: argparse.Namespace) -> None:
    from t4g_tracker.synthetic.clips import CLIPS_VERSION, val_pairs
    from t4g_tracker.training.flow.dataset import PairCrops, collate_pairs
    from t4g_tracker.training.flow.objective import FlowObjective, FlowValidation, new_raft, save_raft
    from t4g_tracker.training.loop.frozen import weights_digest
    from t4g_tracker.training.loop.items import check_room

    config = read_settings(_settings(), request.config, request.assignments)
    try:
        model = new_raft(request.source, request.seed)
    except WeightsError as error:
        raise WeightsError(f"--from: {error}") from error
    objective, album = FlowObjective(model, config.objective), album_of(request)
    if request.keep_clips is not None:
        check_room(request.keep_clips, config.pairs.count, config.pairs.bytes_each, "pairs.count")
    identity = {
        "command": "train-flow",
        "start": weights_digest(model),
        "pairs": {**asdict(config.pairs), "version": CLIPS_VERSION},
        "objective": asdict(config.objective),
        **({"photographs": album.digest} if album else {}),
    }
    averaged: FlowObjective = run_training(
        request,
        request.out,
        objective,
        PairCrops(config.pairs, request.seed, request.keep_clips, album),
        collate_pairs,
        config.trainer,
        FlowValidation(val_pairs(config.validation, VALIDATION_SIZE)),
        identity,
    )
    if is_main_process():
        path = request.out / WEIGHTS
        save_raft(averaged.raft, path)
        say(f"weights in {path}; use them with --set flow.method=raft-small flow.weights={path}")


main = training_command(_parse, _train)
