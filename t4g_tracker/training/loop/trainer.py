"""The training loop that all models here share: resumable, within a time budget, on any device.

What is trained is an *objective*: a module that holds the model and turns a batch into
losses. The loop knows nothing else about it. Several GPUs go through accelerate
(``accelerate launch -m t4g_tracker.__main__ train-flow ...``); each process generates its own batches.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from t4g_tracker.choices import Precision
from t4g_tracker.errors import ConfigError, TrainingError
from t4g_tracker.files import prepare_output_folder
from t4g_tracker.hardware import pick_precision
from t4g_tracker.training.loop.batches import ItemOrder, batches_from
from t4g_tracker.training.loop.checkpoint import Checkpoint, TrainingState
from t4g_tracker.training.loop.data_workers import default_workers
from t4g_tracker.training.loop.history import History
from t4g_tracker.training.loop.optimisation import moving_average, one_cycle, optimise
from t4g_tracker.training.loop.temporal import flatten_time_convolutions

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.jsonl"
RECORD_EVERY = 10  # steps between lines of the history
MAY_CHANGE = ("steps", "validate_every", "save_every_s", "workers")  # when a training is resumed
SAVING_SHARE = 0.05  # largest share of the time that goes into writing checkpoints
BAD_STEPS = 20  # in a row without a finite gradient end a training


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How an objective is optimised, whatever it is."""

    steps: int = 100_000  # at most; a time budget may end training earlier
    batch: int = 8  # items a step and process
    learning_rate: float = 4e-4  # at its highest
    weight_decay: float = 1e-4  # of AdamW
    warm_up: float = 0.05  # share of the training in which the learning rate rises; then a cosine to 0
    clip_norm: float = 1.0  # of the gradient, over all weights
    averaging: float = 0.999  # decay of the moving average of the weights, which is the result
    precision: Precision = "auto"  # auto: bfloat16 where the device is fast at it
    validate_every: int = 500  # steps
    save_every_s: float = 120.0  # seconds between checkpoints
    workers: int | None = None  # processes that generate batches ahead; null: one, up to eight beside a GPU

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
    """Where one training stores its state, and how long it may take."""

    folder: Path
    device: torch.device
    time_budget_s: float | None = None  # of the whole training, earlier calls included; None: no limit
    seed: int = 0
    stop: Callable[[], bool] = lambda: False  # called between steps; True ends the call with a checkpoint
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

    A checkpoint is written every ``save_every_s`` seconds, less often where writing takes long, and when
    the call ends, even because an item cannot be generated or a data worker is killed (in the main process,
    where there are several). The same call then resumes. Which items a step sees, and the state of torch's
    global generators in it, depend on the seed, the step and the process alone: an interrupted run sees what
    an unbroken one sees. The learning rate follows the share of steps or of time that is used up, whichever
    is larger. A step whose gradient is not finite changes nothing.

    Args:
        objective: ``objective(batch)`` returns a dict of scalar losses; "loss" is minimised.
        items: Indexed by (index of the item, number of items taken before it); always the same for the same.
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
        TrainingError: If the gradient is not finite twenty steps in a row, or a data worker is killed.
        TrackerError: What generating an item raised.
    """
    training = _begin(objective, config, run, validate, identity)
    accelerator = training.accelerator
    processes = accelerator.num_processes
    order = ItemOrder(len(items), config.batch, processes, accelerator.process_index, run.seed)  # type: ignore[arg-type]
    workers = config.workers
    if workers is None:
        workers = default_workers(accelerator.device, processes)
    with closing(batches_from(items, collate, order, training.state.step, workers)) as batches:
        finished = training.loop(batches)
    return training.averaged.module.eval(), finished


def _begin(
    objective: nn.Module,
    config: TrainerConfig,
    run: TrainingRun,
    validate: Callable[[nn.Module], dict[str, float]],
    identity: dict[str, Any],
) -> _Training:
    """Set up the optimiser on the run's device, and resume from the folder's checkpoint if there is one."""
    prepare_output_folder(run.folder)
    accelerator = _accelerator(run.device, pick_precision(config.precision, run.device))
    if accelerator.device.type == "cpu":
        flatten_time_convolutions(objective)
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    # the moving average is a copy of the objective, so it is made before accelerate wraps that
    averaged = AveragedModel(objective, multi_avg_fn=moving_average(config.averaging), use_buffers=True)
    model, optimiser = accelerator.prepare(objective, optimiser)
    averaged.to(accelerator.device)

    lasting = {name: value for name, value in asdict(config).items() if name not in MAY_CHANGE}
    identity = {**identity, "trainer": lasting, "seed": run.seed}
    bare = accelerator.unwrap_model(model)
    checkpoint = Checkpoint(run.folder / CHECKPOINT, identity, bare, averaged, optimiser)
    state = checkpoint.resume()
    history = History(run.folder / HISTORY)
    if accelerator.is_main_process:
        history.forget_after(state.step)
    return _Training(
        config, run, validate, accelerator, model, optimiser, averaged, checkpoint, history, state
    )


@dataclass
class _Training:
    """One call of ``train``: what it works with, and how far it is."""

    config: TrainerConfig
    run: TrainingRun
    validate: Callable[[nn.Module], dict[str, float]]
    accelerator: Accelerator
    model: nn.Module  # the objective as accelerate wraps it
    optimiser: Any
    averaged: AveragedModel
    checkpoint: Checkpoint
    history: History
    state: TrainingState
    expected: int = 0  # steps of the whole training, from its pace so far
    bad_steps: int = 0  # in a row up to now, without a finite gradient
    figures: dict[str, float] = field(default_factory=dict)  # latest losses and validation results

    def __post_init__(self) -> None:
        self.clock = _Clock(self.state.seconds)
        self.next_save = time.monotonic() + self.config.save_every_s

    def loop(self, batches: Generator[Any, None, None]) -> bool:
        """Take steps until the training is finished (True) or ``run.stop`` ends the call (False)."""
        first, validate_every = self.state.step, self.config.validate_every
        while True:
            progress, stopped = self._progress()
            if stopped or progress >= 1:
                break
            self._show(progress)
            self._step(batches, progress)
            validating = self.state.step % validate_every == 0
            if validating:
                with self.clock.paused():  # validation does not use up the time budget
                    self.figures |= self._validation()
            if validating or self.state.step % RECORD_EVERY == 0:
                self._record()
            if time.monotonic() > self.next_save:
                with self.clock.paused() as pause:
                    self._save()
                # a checkpoint that takes long to write is written less often
                spacing = max(self.config.save_every_s, pause.seconds() / SAVING_SHARE)
                self.next_save = time.monotonic() + spacing
        # the weights that are returned are validated too, unless the last step or an earlier call did it
        if not stopped and self.state.step > first and self.state.step % validate_every:
            self.figures = self._validation()
            self._record()
        self._save()
        return not stopped

    def _progress(self) -> tuple[float, bool]:
        """Share of the training that is used up, and whether to stop: the same in all processes."""
        self.state.seconds = self.clock.seconds()
        progress = self.state.step / self.config.steps
        if self.run.time_budget_s is not None:
            progress = max(progress, self.state.seconds / self.run.time_budget_s)
        return _agreed(self.accelerator, progress, self.run.stop())

    def _show(self, progress: float) -> None:
        """Report the step, the number of steps expected from the pace so far, and the latest figures."""
        step = self.state.step
        self.expected = max(step + 1, round(step / progress)) if step else self.config.steps
        self._report(" ".join(f"{name} {value:.3f}" for name, value in self.figures.items()))

    def _step(self, batches: Generator[Any, None, None], progress: float) -> None:
        """Take one step of the optimiser and of the moving average."""
        # what a step samples must not depend on whether the training was interrupted before it
        torch.manual_seed(hash((self.run.seed, self.state.step, self.accelerator.process_index)) % 2**63)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * one_cycle(progress, self.config.warm_up)
        # the only place where a failed item or a lost data worker surfaces: the steps before it are whole
        try:
            batch = next(batches).to(self.accelerator.device)
        except Exception:
            self._save()
            raise
        self.figures, finite = optimise(
            self.accelerator, self.model, self.optimiser, batch, self.config.clip_norm
        )
        if finite:
            self.averaged.update_parameters(self.accelerator.unwrap_model(self.model))
        self._check_divergence(finite)
        self.state.step += 1

    def _check_divergence(self, finite: bool) -> None:
        """Give up after many steps in a row without a finite gradient; a single one only costs its step."""
        self.bad_steps = 0 if finite else self.bad_steps + 1
        if self.bad_steps == BAD_STEPS:
            raise TrainingError(
                f"{self.run.folder}: training diverged at step {self.state.step}; lower"
                " trainer.learning_rate, and give another --out"
            )

    def _validation(self) -> dict[str, float]:
        """Figures of the averaged weights."""
        self._report("validating")
        found = self.validate(self.averaged.module.eval())
        if self.accelerator.is_main_process:
            words = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            log.info("step %d: %s", self.state.step, words)
        return found

    # One process speaks and writes for all of them.

    def _report(self, note: str) -> None:
        if self.accelerator.is_main_process:
            self.run.report(self.state.step, self.expected, note)

    def _record(self) -> None:
        if self.accelerator.is_main_process:
            rate = self.optimiser.param_groups[0]["lr"]
            self.history.add(self.state.step, self.state.seconds, rate, self.figures)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            self.checkpoint.save(self.state)


@dataclass
class _Clock:
    """Seconds of training in all calls, without the pauses."""

    before: float = 0.0  # spent in earlier calls
    begun: float = field(default_factory=lambda: time.monotonic())

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.begun

    @contextmanager
    def paused(self) -> Iterator[_Clock]:
        """Stand still meanwhile; yields a clock of the pause."""
        pause = _Clock()
        yield pause
        self.begun += pause.seconds()


def _accelerator(device: torch.device, precision: torch.dtype) -> Accelerator:
    """One for this device, whatever device an earlier training in the same process had."""
    AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    mixed = "no" if precision == torch.float32 else "bf16"
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed)


def _agreed(accelerator: Accelerator, progress: float, stop: bool) -> tuple[float, bool]:
    """The main process's progress, and whether any process is to stop, so that all do the same."""
    if accelerator.num_processes == 1:
        return progress, stop
    all_of_them = accelerator.gather(torch.tensor([[progress, float(stop)]], device=accelerator.device))
    return float(all_of_them[0, 0]), bool(all_of_them[:, 1].any())
