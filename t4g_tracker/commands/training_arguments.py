"""The shared part of training commands: arguments, and device, progress bar and Ctrl-C around the loop."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t4g_tracker.commands.arguments import add_settings_arguments, path_text
from t4g_tracker.commands.guarded import guarded, stop_on_interrupt
from t4g_tracker.commands.parser import Parser
from t4g_tracker.errors import Interrupted, shortened

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from t4g_tracker.synthetic.photographs import Album
    from t4g_tracker.training.loop.settings import TrainerConfig


def seconds(text: str) -> float:
    """Parse a duration: 90s, 45m, 2h, or a plain number of seconds."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", text, re.ASCII)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"must be a duration such as 90s, 45m or 2h, got {shortened(text)}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def add_training_arguments(parser: Parser, settings: Callable[[], Any]) -> None:
    """Add the arguments of every training command; ``settings`` makes its settings with their defaults."""
    parser.add_argument(
        "--out", type=path_text, required=True, help="folder for checkpoint, history and weights"
    )
    parser.add_argument(
        "--time-budget",
        type=seconds,
        help="time of the whole training, earlier calls included: 90s, 45m, 2h, or plain seconds (default: "
        "no limit)",
    )
    parser.add_argument(
        "--keep-clips",
        type=path_text,
        help="cache generated clips in this folder, so that each is generated once",
    )
    parser.add_argument(
        "--photographs",
        type=path_text,
        metavar="FOLDER",
        help="take textures of synthetic clips from these photographs too, beside those of scikit-image",
    )
    add_settings_arguments(parser, "trainer.steps=20000", settings)


def album_of(request: argparse.Namespace) -> Album | None:
    """Open the photographs of ``--photographs``; raises ConfigError if there are none."""
    from t4g_tracker.synthetic.photographs import Album

    return None if request.photographs is None else Album.of(request.photographs)


def run_training(
    request: argparse.Namespace,
    folder: Path,
    objective: nn.Module,
    items: Dataset[Any],
    collate: Callable[[list[Any]], Any],
    trainer: TrainerConfig,
    validate: Any,
    identity: dict[str, Any],
) -> Any:
    """Train on the device, with the seed and within the time budget of the command line.

    Args:
        request: From ``add_training_arguments``.
        folder: Folder of checkpoint and history.
        objective, items, collate, validate: As in ``train``.
        trainer: Settings of the loop.
        identity: Everything that decides what is trained, plain JSON values; other checkpoints are refused.

    Returns:
        The averaged objective in evaluation mode.

    Raises:
        Interrupted: If Ctrl-C ended the training early; a checkpoint is written first.
        CacheError, OutputError, TrainingError: As in ``train``.
    """
    from t4g_tracker.hardware import pick_device
    from t4g_tracker.stage_log import progress_bar
    from t4g_tracker.training.loop.trainer import TrainingRun, train

    device = pick_device(request.device)
    with progress_bar("training", "step", request.quiet) as report, stop_on_interrupt() as stop:
        run = TrainingRun(folder, device, request.time_budget, request.seed, stop, report)
        averaged, finished = train(objective, items, collate, trainer, run, validate, identity)
    if not finished:
        raise Interrupted(f"stopped; the checkpoint is in {folder}")
    return averaged


def training_command(
    parse: Callable[[list[str] | None], argparse.Namespace], train: Callable[[argparse.Namespace], None]
) -> Callable[[list[str] | None], int]:
    """Make the ``main`` of a training command, which returns the exit code.

    Args:
        parse: Reads the arguments; exits with code 2 on wrong usage.
        train: Does the work.
    """

    def command(argv: list[str] | None) -> int:
        train(parse(argv))
        end_together()
        return 0

    def main(argv: list[str] | None = None) -> int:
        return guarded(command, argv)

    return main


def end_together() -> None:
    """Wait until every process is done, above all the one that writes.

    A process that ends with open connections may be aborted, and then the launcher ends the others.
    """
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def is_main_process() -> bool:
    """Whether this process is the one that writes, among those started by ``accelerate launch``."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)
