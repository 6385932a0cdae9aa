"""The training loop that every model here shares: resumable, within a time budget, on any device.

What is trained is an *objective*: a module that holds the model and turns a batch into
losses. The loop knows nothing else about it. Several GPUs go through accelerate
(``accelerate launch -m t4g_tracker.__main__ train-flow ...``); each process draws its own items.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from t4g_tracker.choices import Precision
from t4g_tracker.errors import ConfigError, TrackerError, TrainingError
from t4g_tracker.files import atomic_write, prepare_output_folder
from t4g_tracker.hardware import cores, pick_precision
from t4g_tracker.training.loop.batches import Turns, batches_from
from t4g_tracker.training.loop.checkpoint import Checkpoint, TrainingState
from t4g_tracker.training.loop.temporal import flatten_time_convolutions

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.jsonl"
MAY_CHANGE = ("steps", "validate_every", "save_every_s", "workers")  # when a training goes on
SAVING_SHARE = 0.05  # of the time at most goes into checkpoints
BAD_STEPS = 20  # in a row with no finite gradient end a training


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How an objective is optimised, whatever it is."""

    steps: int = 100_000  # at most; a time budget may end training earlier
    batch: int = 8  # items a step and process
    learning_rate: float = 4e-4  # at its highest
    weight_decay: float = 1e-4  # of AdamW
    warm_up: float = 0.05  # share of the training in which the learning rate rises; then a cosine to 0
    clip_norm: float = 1.0  # of the gradient, over all weights
    averaging: float = 0.999  # decay of the moving average of the weights, which is what is kept
    precision: Precision = "auto"  # auto: bfloat16 where the device is fast at it
    validate_every: int = 500  # steps
    save_every_s: float = 120.0  # seconds between checkpoints
    workers: int | None = None  # processes that draw items meanwhile; null: one, beside a GPU up to eight

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("validate_every", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"trainer.{name} must be at least {least}, got {value}")
        if self.learning_rate <= 0 or self.weight_decay < 0 or self.clip_norm <= 0:
            raise ConfigError(
                "trainer: learning_rate and clip_norm must be positive, and weight_decay 0 or more"
            )
        if not 0 <= self.warm_up < 1 or not 0 <= self.averaging < 1:
            raise ConfigError("trainer: warm_up and averaging must be from 0 up to, but not, 1")


@dataclass(frozen=True)
class TrainingRun:
    """Where one training keeps its state, and how long it may take."""

    folder: Path
    device: torch.device
    time_budget_s: float | None = None  # of training altogether, earlier calls included; None: no limit
    seed: int = 0
    stop: Callable[[], bool] = lambda: False  # asked between steps; True ends the call with a checkpoint
    report: Callable[..., None] = lambda done, total, note="": None


def train(
    objective: nn.Module,
    items: Dataset[Any],
    collate: Callable[[list[Any]], Any],
    config: TrainerConfig,
    run: TrainingRun,
    validate: Callable[[nn.Module], dict[str, float]],
    identity: dict[str, Any],
) -> tuple[nn.Module, bool]:
    """Optimise an objective until its steps or its time are used up.

    A checkpoint is written every ``save_every_s`` seconds, less often where that takes long, and when
    the call ends, also by an error in drawing an item (of the first process, where there are several).
    So the same call goes on where the last one stopped. Which items a step sees, and torch's global
    generators in it, depend on the seed, the step and the process alone: a run that was interrupted sees
    what an unbroken one sees. The learning rate follows the share of steps or of time that is used up,
    whichever is larger. A step whose gradient is not finite changes nothing.

    Args:
        objective: ``objective(batch)`` returns a dict of scalar losses; "loss" is minimised.
        items: Asked for (index of the item, number of items drawn before it); the same whenever asked.
        collate: Makes a batch (with a ``to(device)`` method) from a list of items.
        config: Optimiser, averaging, validation.
        run: Folder, device, budget, seed.
        validate: Given the averaged objective in evaluation mode, returns figures to record.
        identity: What the checkpoint belongs to, besides seed and most of ``config``; plain JSON values.

    Returns:
        The averaged objective in evaluation mode, on the run's device, and whether training
        is finished (False when ``run.stop`` ended it).

    Raises:
        CacheError: If the folder holds a checkpoint of other settings.
        OutputError: If the folder cannot be written.
        TrainingError: If the gradient is not finite twenty steps in a row, or a drawing process is killed.
        TrackerError: What drawing an item raised.
    """
    prepare_output_folder(run.folder)
    precision = pick_precision(config.precision, run.device)
    accelerator = _accelerator(run.device, precision)
    if accelerator.device.type == "cpu":
        flatten_time_convolutions(objective)
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    averaged = AveragedModel(objective, multi_avg_fn=_average(config.averaging), use_buffers=True)
    model, optimiser = accelerator.prepare(objective, optimiser)
    averaged.to(accelerator.device)
    lasting = {name: value for name, value in asdict(config).items() if name not in MAY_CHANGE}
    identity = {**identity, "trainer": lasting, "seed": run.seed}
    kept = Checkpoint(run.folder / CHECKPOINT, identity, accelerator.unwrap_model(model), averaged, optimiser)
    state = kept.resume()
    if accelerator.is_main_process:
        _forget_after(run.folder / HISTORY, state.step)
    count, places = len(items), (accelerator.num_processes, accelerator.process_index)  # type: ignore[arg-type]
    workers = config.workers
    if workers is None:
        workers = drawing_workers(accelerator.device, accelerator.num_processes)
    turns = Turns(count, config.batch, *places, state.step, run.seed)
    batches = batches_from(items, collate, turns, workers)
    figures: dict[str, float] = {}
    bad, called_at, clock = 0, state.step, _Clock(state.seconds)
    report = run.report if accelerator.is_main_process else None
    next_save = time.monotonic() + config.save_every_s
    while True:
        state.seconds = clock.seconds()
        progress = state.step / config.steps
        if run.time_budget_s is not None:
            progress = max(progress, state.seconds / run.time_budget_s)
        progress, stopped = _agreed(accelerator, progress, run.stop())
        if stopped or progress >= 1:
            break
        expected = max(state.step + 1, round(state.step / progress)) if state.step else config.steps
        if report is not None:
            report(state.step, expected, " ".join(f"{k} {v:.3f}" for k, v in figures.items()))
        torch.manual_seed(hash((run.seed, state.step, accelerator.process_index)) % 2**63)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * one_cycle(progress, config.warm_up)
        try:
            batch = next(batches).to(accelerator.device)
        except TrackerError:
            if accelerator.is_main_process:
                kept.save(state)
            raise
        figures, good = _step(accelerator, model, optimiser, batch, config.clip_norm)
        if good:
            averaged.update_parameters(accelerator.unwrap_model(model))
        bad = 0 if good else bad + 1
        if bad == BAD_STEPS:
            raise TrainingError(
                f"{run.folder}: training diverged at step {state.step}; lower trainer.learning_rate,"
                " and give another --out"
            )
        state.step += 1
        if state.step % config.validate_every == 0:
            with clock.paused():  # measuring is not training
                figures |= _validated(validate, averaged.module, state.step, expected, report)
        if accelerator.is_main_process:
            if state.step % 10 == 0 or state.step % config.validate_every == 0:
                _note(run.folder, state, optimiser.param_groups[0]["lr"], figures)
            if time.monotonic() > next_save:
                with clock.paused() as pause:
                    kept.save(state)
                next_save = time.monotonic() + max(config.save_every_s, pause.seconds() / SAVING_SHARE)
    if not stopped and state.step > called_at and state.step % config.validate_every:
        figures = _validated(validate, averaged.module, state.step, expected, report)
        if accelerator.is_main_process:
            _note(run.folder, state, optimiser.param_groups[0]["lr"], figures)
    if accelerator.is_main_process:
        kept.save(state)
    return averaged.module.eval(), not stopped


@dataclass
class _Clock:
    """Seconds of training, over all calls, without the pauses in it."""

    before: float = 0.0  # spent in earlier calls
    begun: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.begun

    @contextmanager
    def paused(self) -> Iterator[_Clock]:
        """Stand still meanwhile; yields a clock of the pause."""
        pause = _Clock()
        yield pause
        self.begun += pause.seconds()


def _validated(
    validate: Callable[[nn.Module], dict[str, float]],
    averaged: nn.Module,
    step: int,
    expected: int,
    report: Callable[..., None] | None,
) -> dict[str, float]:
    """What validation finds; ``report`` and the log tell that it takes its time, and what came of it."""
    if report is not None:
        report(step, expected, "measuring what no training sees")
    found = validate(averaged.eval())
    if report is not None:
        log.info("step %d: %s", step, ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    return found


def _step(
    accelerator: Accelerator, model: nn.Module, optimiser: Any, batch: Any, clip_norm: float
) -> tuple[dict[str, float], bool]:
    """One step of the optimiser: its losses, and whether the gradient was finite; if not, nothing changes."""
    model.train()
    statistics = [buffer.clone() for buffer in model.buffers()]  # of batch norms, which a forward pass moves
    with accelerator.autocast():
        losses: dict[str, Tensor] = model(batch)
    accelerator.backward(losses["loss"])
    good = math.isfinite(float(accelerator.clip_grad_norm_(model.parameters(), clip_norm)))
    if good:
        optimiser.step()
    else:
        for buffer, before in zip(model.buffers(), statistics, strict=True):
            buffer.copy_(before)
    optimiser.zero_grad(set_to_none=True)
    return {name: float(value.detach()) for name, value in losses.items()}, good


def drawing_workers(device: torch.device, processes: int) -> int:
    """How many processes draw items for each of the training's own.

    One where the model trains on the CPU, which it keeps busy itself; beside a GPU this process's share
    of the cores but one, at least one and at most eight: each of them holds several batches in memory.
    """
    if device.type == "cpu":
        return 1
    return min(8, max(1, cores() // processes - 1))


def _accelerator(device: torch.device, precision: torch.dtype) -> Accelerator:
    """One for this device, whatever an earlier training in the same process was run on."""
    AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    mixed = "no" if precision == torch.float32 else "bf16"
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed)


def _agreed(accelerator: Accelerator, progress: float, stop: bool) -> tuple[float, bool]:
    """The first process's progress and whether any is to stop, so that all of them do the same."""
    if accelerator.num_processes == 1:
        return progress, stop
    told = accelerator.gather(torch.tensor([[progress, float(stop)]], device=accelerator.device))
    return float(told[0, 0]), bool(told[:, 1].any())


def one_cycle(progress: float, warm_up: float) -> float:
    """Factor on the learning rate: up along a line, down along half a cosine.

    Args:
        progress: Share of the training that is done, 0..1.
        warm_up: Share in which it rises, from a twenty-fifth.

    Returns:
        Factor in 0..1.

    Source: Smith and Topin, Super-Convergence, arXiv:1708.07120.
    """
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _average(decay: float) -> Callable[..., None]:
    """A moving average that follows closely at first and slowly later."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), share)
            else:
                average.copy_(value)

    return update


def _forget_after(history: Path, step: int) -> None:
    """Drop the lines of steps that a killed training took after its last checkpoint: they are taken again."""
    if not history.exists():
        return
    lines = history.read_text(encoding="utf-8").splitlines()
    known = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    if known != lines:
        with atomic_write(history) as passing:
            passing.write_text("".join(f"{line}\n" for line in known), encoding="utf-8")


def _note(folder: Path, state: TrainingState, rate: float, figures: dict[str, float]) -> None:
    """Append what is known of a step to the history."""
    row = {"step": state.step, "seconds": round(state.seconds, 1), "rate": rate, **figures}
    with (folder / HISTORY).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
