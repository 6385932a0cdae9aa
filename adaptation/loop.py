"""The optimisation: fit a residual adapter to one video's trajectories, step by step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adaptation.adapter import Adapter, build_adapter, normalise_frames
from adaptation.objective import batch_losses, found_positions
from adaptation.prepare import PreparedFeatures
from adaptation.result import Adaptation, Weights
from adaptation.sampling import PairBatch, hold_out, sample_pairs
from adaptation.settings import AdaptationConfig
from t4g_tracker.datatypes import Trajectories
from t4g_tracker.errors import TrackerError
from t4g_tracker.hardware import pick_precision
from t4g_tracker.matching.settings import MatchingConfig

log = logging.getLogger(__name__)

CLIP_NORM = 1.0  # of the gradient, over all weights
FOUND_WITHIN_PX = 2.0  # working pixels; what counts as found among held-out pairs


@dataclass
class LoopState:
    """Everything that an interrupted optimisation needs to resume as if it had not stopped."""

    step: int
    adapter: Adapter
    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    snapshots: dict[int, Weights] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors, for ``torch.save``."""
        return {
            "step": self.step,
            "adapter": self.adapter.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "snapshots": self.snapshots,
            "history": self.history,
            "step_seconds": self.step_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state, strictly."""
        self.adapter.load_state_dict(state["adapter"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["generator"])
        self.step = state["step"]
        self.snapshots, self.history = state["snapshots"], state["history"]
        self.step_seconds = state["step_seconds"]


Save = Callable[[dict[str, Any]], None]
Report = Callable[[int, dict[str, Any]], None]


class Interrupted(KeyboardInterrupt):
    """The loop was asked to stop and has handed its state to ``save``."""


def adapt(
    features: PreparedFeatures,
    frames: Tensor,
    trajectories: Trajectories | None,
    config: AdaptationConfig,
    matching: MatchingConfig,
    *,
    seed: int,
    device: torch.device,
    resume: dict[str, Any] | None = None,
    save: Save | None = None,
    save_every_s: float = 60.0,
    report: Report | None = None,
    stop: Callable[[], bool] | None = None,
    foreground: Tensor | None = None,
) -> Adaptation:
    """Fit a residual adapter so that matching adapted features reproduces the trajectories.

    Args:
        features: Prepared features of T frames.
        frames: (T, 3, H, W) uint8 at the working size.
        trajectories: Training targets in working pixels; some are held out to measure on.
            None, with 0 steps, gives the untrained adapter.
        config: Steps, adapter, losses.
        matching: Temperature and window of the losses; tracking must match with the same.
        seed: Of the adapter's first weights and of every sample.
        device: Where to optimise.
        resume: A state that ``save`` was given, to resume from.
        save: Called with a resumable state every ``save_every_s`` seconds, and when
            ``stop`` ends the loop.
        save_every_s: Seconds between calls of ``save``.
        report: Called after each step with (step, newest history row).
        stop: Called between steps; True ends the loop there, so the saved state is whole.
        foreground: (T, H, W) bool; half of the pairs then come from inside.

    Returns:
        The fitted adapter, snapshots and history. The same seed on the same machine gives
        the same weights, resumed or not.

    Raises:
        Interrupted: If ``stop`` returned True.
        TrackerError: If the loss stops being a number, or the trajectories cannot be paired.

    Source: the optimisation of DINO-Tracker, arXiv:2403.14548; the differences are in
    docs/design.md.
    """
    # One generator serves every choice, in this order: held-out blocks, probe, then the pairs of each step.
    generator = torch.Generator().manual_seed(seed)
    if trajectories is None:
        state = _start(features, config, seed, device, generator)
        return _result(features, config, {0: _weights(state.adapter)}, [], [])
    training, held_out = hold_out(trajectories, features.working_size, config.held_out, generator)
    probe = _probe_batches(held_out, len(frames), generator)
    favoured = None if foreground is None else _begins_inside(training, foreground)
    state = _start(features, config, seed, device, generator)
    if resume is not None:
        state.load_state_dict(resume)
    stepper = _Stepper(state.adapter, features.values, frames, config, matching, device)
    if not state.step:  # what the frozen features are worth, before anything is learned
        state.snapshots[0] = _weights(state.adapter)
        state.history.append({"step": 0, **stepper.measure(probe)})

    snapshot_steps = {step for step in config.snapshots if step < config.steps} | {config.steps}
    last_saved = time.monotonic()
    while state.step < config.steps:
        # sample pairs, take one step
        begin = time.perf_counter()
        batch = sample_pairs(
            training, len(frames), config.frames_per_step, config.pairs_per_frame, generator, favoured
        )
        row = {"step": state.step + 1, **stepper.step(batch, state.optimiser)}
        _check_loss(row, config)
        state.scheduler.step()
        state.step += 1
        state.step_seconds.append(time.perf_counter() - begin)

        # record how it goes
        if state.step % config.evaluate_every == 0 or state.step == config.steps:
            row |= stepper.measure(probe)
        state.history.append(row)
        if state.step in snapshot_steps:
            state.snapshots[state.step] = _weights(state.adapter)
        if report is not None:
            report(state.step, row)

        # save now and then, and stop between steps if asked to
        stopping = stop is not None and state.step < config.steps and stop()
        if save is not None and (stopping or time.monotonic() - last_saved > save_every_s):
            save(state.state_dict())
            last_saved = time.monotonic()
        if stopping:
            raise Interrupted(f"stopped after step {state.step} of {config.steps}")
    return _result(features, config, state.snapshots, state.history, state.step_seconds)


class _Stepper:
    """One video's fixed inputs, and what a step and a measurement do with them."""

    def __init__(
        self,
        adapter: Adapter,
        frozen: Tensor,
        frames: Tensor,
        config: AdaptationConfig,
        matching: MatchingConfig,
        device: torch.device,
    ) -> None:
        self.adapter, self.frozen, self.frames = adapter, frozen, frames
        self.losses, self.matching, self.device = config.losses, matching, device
        self.precision = pick_precision(config.precision, device)
        self.stride_px = adapter.stride_px

    def adapted(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Adapted and frozen features of the frames ``which`` (F,)."""
        # both channels last: mixed, the sum of the two would be laid out the slow way round
        frozen = self.frozen[which].to(self.device, self.precision, memory_format=torch.channels_last)
        frames = normalise_frames(self.frames[which].to(self.device))
        frames = frames.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            adapted = self.adapter(frames, frozen)
        return adapted, frozen

    def step(self, batch: PairBatch, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """Take one optimisation step; returns the loss and its unweighted parts."""
        adapted, frozen = self.adapted(batch.frames)
        batch = batch.to(self.device)
        losses = batch_losses(adapted, frozen, batch, self.stride_px, self.losses, self.matching)
        total = torch.stack([getattr(self.losses, name) * value for name, value in losses.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), CLIP_NORM)
        optimiser.step()
        return {"loss": total.item(), "losses": {name: value.item() for name, value in losses.items()}}

    @torch.no_grad()
    def measure(self, probe: list[PairBatch]) -> dict[str, float]:
        """ "held_out_2px": the share of the probe's pairs that matching finds within 2 working pixels.

        Nothing if the probe is empty.
        """
        if not probe:
            return {}
        self.adapter.eval()
        hits = []
        for batch in probe:
            adapted, _ = self.adapted(batch.frames)
            found = found_positions(adapted, batch.to(self.device), self.stride_px, self.matching)
            hits.append((found.cpu() - batch.target_xy).norm(dim=-1) <= FOUND_WITHIN_PX)
        self.adapter.train()
        return {"held_out_2px": torch.cat(hits).float().mean().item()}


def _start(
    features: PreparedFeatures,
    config: AdaptationConfig,
    seed: int,
    device: torch.device,
    generator: torch.Generator,
) -> LoopState:
    """An untrained adapter with its optimiser and schedule."""
    adapter = build_adapter(config.adapter, features.channels, config.width, seed)
    adapter = adapter.to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        adapter.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    scheduler: torch.optim.lr_scheduler.LRScheduler
    if config.schedule == "one-cycle":
        total = max(config.steps, 1) + 1
        warm_up = max(0.05, 2 / total)  # at least one step: OneCycleLR divides by its length
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=total, pct_start=warm_up
        )
    else:
        scheduler = torch.optim.lr_scheduler.StepLR(optimiser, step_size=40, gamma=0.999)
    return LoopState(0, adapter, optimiser, scheduler, generator)


def _result(
    features: PreparedFeatures,
    config: AdaptationConfig,
    snapshots: dict[int, Weights],
    history: list[dict[str, Any]],
    step_seconds: list[float],
) -> Adaptation:
    """Snapshots, with what rebuilding the adapter around them needs."""
    ordered = sorted(step_seconds)
    return Adaptation(
        kind=config.adapter,
        channels=features.channels,
        width=config.width,
        centre=features.centred,
        precision=config.precision,
        snapshots=snapshots,
        history=history,
        seconds_per_step=ordered[len(ordered) // 2] if ordered else 0.0,
        seconds=sum(ordered),
    )


def _check_loss(row: dict[str, Any], config: AdaptationConfig) -> None:
    """Stop a diverged optimisation.

    Raises:
        TrackerError: If the loss is not finite.
    """
    if not math.isfinite(row["loss"]):
        raise TrackerError(
            f"the adaptation diverged at step {row['step']}; lower adaptation.learning_rate "
            f"(now {config.learning_rate})"
        )


def _weights(adapter: nn.Module) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in adapter.state_dict().items()}


def _probe_batches(held_out: Trajectories, frame_count: int, generator: torch.Generator) -> list[PairBatch]:
    """A fixed set of held-out pairs, sampled once, that every measurement uses; empty without any."""
    if not len(held_out):
        return []
    try:
        return [sample_pairs(held_out, frame_count, 2, 64, generator) for _ in range(8)]
    except TrackerError:
        log.warning(
            "adaptation: too few trajectories are held out to measure progress on; continuing without"
        )
        return []


def _begins_inside(trajectories: Trajectories, foreground: Tensor) -> Tensor:
    """Which trajectories (M,) begin inside the mask (T, H, W)."""
    x, y = trajectories.xy[trajectories.first].round().long().unbind(-1)
    _, height, width = foreground.shape
    return foreground[trajectories.start, y.clamp(0, height - 1), x.clamp(0, width - 1)]
