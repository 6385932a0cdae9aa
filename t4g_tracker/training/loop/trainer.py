"""The training loop that all models share: resumable, within a time budget, on any device.

It trains an *objective*: a module that holds the model and turns a batch into losses. The loop knows
nothing else about it. Several GPUs are used through accelerate
(``accelerate launch -m t4g_tracker.__main__ train-flow ...``); each process generates its own batches.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from t4g_tracker.errors import TrainingError
from t4g_tracker.hardware import check_precision, pick_precision
from t4g_tracker.storage.files import locked_folder
from t4g_tracker.training.loop.batches import ItemOrder, batches_from
from t4g_tracker.training.loop.checkpoint import Checkpoint, TrainingState, batch_of
from t4g_tracker.training.loop.data_workers import default_workers
from t4g_tracker.training.loop.fitting import fitting_batch
from t4g_tracker.training.loop.history import History
from t4g_tracker.training.loop.optimisation import moving_average, one_cycle, optimise
from t4g_tracker.training.loop.settings import TrainerConfig
from t4g_tracker.training.loop.temporal import flatten_time_convolutions

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.jsonl"
RECORD_EVERY = 10  # steps between lines of the history
MAY_CHANGE = ("steps", "validate_every", "save_every_s", "workers")  # settings, when a training resumes
SAVING_SHARE = 0.05  # largest share of the time for writing checkpoints
BAD_STEPS = 20  # a training ends after this many steps in a row without a finite gradient


@dataclass(frozen=True)
class TrainingRun:
    """Where one training stores its state, and what limits it."""

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

    A checkpoint is written every ``save_every_s`` seconds (less often if writing takes long), and when the
    call ends, even if an item cannot be generated or a data worker is killed; of several processes, the
    main one writes it. The same call then resumes. Items and random state depend only on seed, step and
    process, so a resumed run sees what an uninterrupted one would. The learning rate follows the share of
    steps or of time that is used up, whichever is larger. A step whose gradient is not finite changes
    nothing.

    Args:
        objective: ``objective(batch)`` returns a dict of scalar losses; "loss" is minimised.
        items: Indexed by (index of the item, number of items taken before it), always with the same result.
        collate: Makes a batch (with a ``to(device)`` method) from a list of items.
        config: Optimiser, averaging, validation.
        run: Folder, device, budget, seed.
        validate: Takes the averaged objective in evaluation mode, returns figures to record.
        identity: What the checkpoint belongs to, besides seed and most of ``config``; plain JSON values.

    Returns:
        The averaged objective in evaluation mode, on the run's device, and whether the training
        is finished (False if ``run.stop`` ended the call).

    Raises:
        CacheError: If the folder holds a checkpoint of other settings.
        OutputError: If the folder cannot be written, or another run is writing to it.
        TrainingError: If the gradient is not finite twenty steps in a row, or a data worker is killed.
        TrackerError: Any such error of generating an item.
    """
    check_precision("trainer.precision", config.precision, run.device)
    precision = pick_precision(config.precision, run.device)
    accelerator = _accelerator(run.device, precision)
    writes = accelerator.is_main_process
    with locked_folder(run.folder, place="--out") if writes else nullcontext():
        # A batch that the settings leave open is chosen once, by the main process: what is free may change.
        choice = [config.batch or (batch_of(run.folder / CHECKPOINT) if writes else None)]
        if choice[0] is None and writes:
            choice = [fitting_batch(objective, items, collate, accelerator.device, precision)]
        (batch,) = broadcast_object_list(choice)
        config = replace(config, batch=batch)
        training = _begin(objective, config, run, validate, identity, accelerator)

        # Data workers generate this process's share of the items, from the step to resume at.
        processes = accelerator.num_processes
        order = ItemOrder(len(items), batch, processes, accelerator.process_index, run.seed)  # type: ignore[arg-type]
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
    accelerator: Accelerator,
) -> _Training:
    """Set up the optimiser on the run's device, and resume from the folder's checkpoint if there is one."""
    if accelerator.device.type == "cpu":
        flatten_time_convolutions(objective)
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    # the moving average copies the objective, so it is made before accelerate wraps the objective
    averaged = AveragedModel(objective, multi_avg_fn=moving_average(config.averaging), use_buffers=True)
    model, optimiser = accelerator.prepare(objective, optimiser)
    averaged.to(accelerator.device)

    fixed = {name: value for name, value in asdict(config).items() if name not in MAY_CHANGE}
    identity = {**identity, "trainer": fixed, "seed": run.seed}
    unwrapped = accelerator.unwrap_model(model)
    checkpoint = Checkpoint(run.folder / CHECKPOINT, identity, unwrapped, averaged, optimiser)
    state = checkpoint.resume()
    history = History(run.folder / HISTORY)
    if accelerator.is_main_process:
        history.forget_after(state.step)
    return _Training(
        config, run, validate, accelerator, model, optimiser, averaged, checkpoint, history, state
    )


@dataclass
class _Training:
    """One call of ``train``: its parts and its progress."""

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
    expected: int = 0  # steps of the whole training, estimated from its pace so far
    bad_steps: int = 0  # latest steps in a row without a finite gradient
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

            # Validate and record now and then.
            validating = self.state.step % validate_every == 0
            if validating:
                with self.clock.paused():  # validation does not use up the time budget
                    self.figures |= self._validation()
            if validating or self.state.step % RECORD_EVERY == 0:
                self._record()

            # Save now and then; less often if a checkpoint takes long to write.
            if time.monotonic() > self.next_save:
                with self.clock.paused() as pause:
                    self._save()
                spacing = max(self.config.save_every_s, pause.seconds() / SAVING_SHARE)
                self.next_save = time.monotonic() + spacing

        # Validate the final weights, unless the last step or an earlier call did so.
        if not stopped and self.state.step > first and self.state.step % validate_every:
            self.figures = self._validation()
            self._record()
        self._save()
        return not stopped

    def _progress(self) -> tuple[float, bool]:
        """Compute the share of the training that is used up, and whether to stop; all processes agree."""
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
        # Seed every step, so that its random numbers do not depend on earlier interruptions.
        torch.manual_seed(hash((self.run.seed, self.state.step, self.accelerator.process_index)) % 2**63)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * one_cycle(progress, self.config.warm_up)
        # A failed item or a killed data worker raises here only; all steps before it are complete.
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
        """Raise TrainingError after many steps in a row without a finite gradient."""
        self.bad_steps = 0 if finite else self.bad_steps + 1
        if self.bad_steps == BAD_STEPS:
            raise TrainingError(
                f"{self.run.folder}: training diverged at step {self.state.step}; set"
                " trainer.learning_rate lower, and give another --out"
            )

    def _validation(self) -> dict[str, float]:
        """Compute the validation figures of the averaged weights."""
        self._report("validating")
        figures = self.validate(self.averaged.module.eval())
        if self.accelerator.is_main_process:
            words = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            log.info("step %d: %s", self.state.step, words)
        return figures

    # Only the main process reports and writes.

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
    """Seconds of training in all calls, without pauses."""

    before: float = 0.0  # spent in earlier calls
    begun: float = field(default_factory=lambda: time.monotonic())

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.begun

    @contextmanager
    def paused(self) -> Iterator[_Clock]:
        """Pause the clock; yields a clock of the pause."""
        pause = _Clock()
        yield pause
        self.begun += pause.seconds()


def _accelerator(device: torch.device, precision: torch.dtype) -> Accelerator:
    """Make an accelerator for this device, even after a training on another one in the same process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    if device.type == "cuda" and precision != torch.float32:
        torch.set_float32_matmul_precision("high")  # what autocast leaves in float32 is computed in TF32
    mixed = "no" if precision == torch.float32 else "bf16"
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed)


def _agreed(accelerator: Accelerator, progress: float, stop: bool) -> tuple[float, bool]:
    """Share the main process's progress, and whether any process is to stop, so that all do the same."""
    if accelerator.num_processes == 1:
        return progress, stop
    gathered = accelerator.gather(torch.tensor([[progress, float(stop)]], device=accelerator.device))
    return float(gathered[0, 0]), bool(gathered[:, 1].any())
