"""The optimisation: fit a residual adapter to one video's trajectories, step by step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adaptation.adapter import (
    Adapter,
    build_adapter,
    check_tiling,
    mean_feature,
    normalise_frames,
    unit_length,
)
from adaptation.objective import LossConfig, batch_losses, found_positions
from adaptation.sampling import PairBatch, draw_pairs, hold_back
from t4g_tracker.choices import AdapterKind, Precision
from t4g_tracker.datatypes import FeatureGrid, Trajectories
from t4g_tracker.errors import ConfigError, TrackerError
from t4g_tracker.hardware import pick_precision

log = logging.getLogger(__name__)

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class AdaptationConfig:
    """How the adapter is optimised for one video."""

    steps: int = 2000  # optimisation steps; 0 tracks with the frozen features
    adapter: AdapterKind = "lite"
    width: int = 64  # lite only: channels at stride 8, a multiple of 16
    centre: bool = True  # take the video's mean feature off the frozen features first
    learning_rate: float = 1e-3  # at its highest
    schedule: Literal["one-cycle", "exponential"] = "one-cycle"  # exponential: 0.999 every 40 steps
    weight_decay: float = 0.01
    frames_per_step: int = 2
    pairs_per_frame: int = 256  # pairs to find in each frame of a step
    held_back: float = 0.05  # share of the frame whose trajectories only measure progress
    snapshots: tuple[int, ...] = (100, 500, 1000, 2000, 5000)  # steps whose weights are kept for pictures
    evaluate_every: int = 100  # steps between measurements on held-back trajectories
    precision: Precision = "auto"  # auto: bfloat16 where the device is fast at it
    losses: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"adaptation.steps must be 0 or more, got {self.steps}")
        if self.width < 16 or self.width % 16:
            raise ConfigError(f"adaptation.width must be 16, 32, 48, ..., got {self.width}")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ConfigError("adaptation: learning_rate must be positive and weight_decay 0 or more")
        if self.frames_per_step < 2:
            raise ConfigError(f"adaptation.frames_per_step must be at least 2, got {self.frames_per_step}")
        if self.pairs_per_frame < 1 or self.evaluate_every < 1:
            raise ConfigError("adaptation: pairs_per_frame and evaluate_every must be at least 1")
        if not 0 <= self.held_back <= 0.5:
            raise ConfigError(f"adaptation.held_back must be between 0 and 0.5, got {self.held_back}")
        if any(step < 1 for step in self.snapshots):
            raise ConfigError("adaptation.snapshots must be steps of 1 or more")


@dataclass(frozen=True)
class Adaptation:
    """A fitted adapter: its weights at the end and at chosen steps, and how it got there."""

    snapshots: dict[int, Weights]  # step to weights; always holds 0 and the last step
    history: list[dict[str, Any]]  # step, loss, losses, held_back_2px where something is held back
    seconds_per_step: float  # median
    seconds: float  # of all steps, those before an interruption included


@dataclass
class LoopState:
    """Everything that an interrupted optimisation needs to go on as if it had not stopped."""

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


Keep = Callable[[dict[str, Any]], None]
Report = Callable[[int, dict[str, Any]], None]


class Interrupted(KeyboardInterrupt):
    """The loop was asked to stop and has handed its state to ``keep``."""


def adapt(
    features: FeatureGrid,
    frames: Tensor,
    trajectories: Trajectories | None,
    config: AdaptationConfig,
    *,
    seed: int,
    device: torch.device,
    resume: dict[str, Any] | None = None,
    keep: Keep | None = None,
    keep_every_s: float = 60.0,
    report: Report | None = None,
    stop: Callable[[], bool] | None = None,
    foreground: Tensor | None = None,
) -> Adaptation:
    """Fit a residual adapter so that matching adapted features reproduces the trajectories.

    Args:
        features: Frozen features of T frames.
        frames: (T, 3, H, W) uint8 at the working size.
        trajectories: Training targets in working pixels; some are held back to measure on.
            None, with 0 steps, gives the untrained adapter.
        config: Steps, adapter, losses.
        seed: Of the adapter's first weights and of every draw.
        device: Where to optimise.
        resume: A state that ``keep`` was given, to go on from.
        keep: Called with a resumable state every ``keep_every_s`` seconds, and when
            ``stop`` ends the loop.
        keep_every_s: Seconds between calls of ``keep``.
        report: Called after each step with (step, newest history row).
        stop: Asked between steps; True ends the loop there, so that what is kept is whole.
        foreground: (T, H, W) bool; half of the pairs then come from inside.

    Returns:
        The fitted adapter, snapshots and history. The same seed on the same machine gives
        the same weights, resumed or not.

    Raises:
        Interrupted: If ``stop`` returned True.
        ValueError: If the cells of ``features`` do not tile the frame from edge to edge.
        TrackerError: If the loss stops being a number, or the trajectories cannot be paired.

    Source: the optimisation of DINO-Tracker, arXiv:2403.14548; the differences are in
    docs/design.md.
    """
    check_tiling(features)
    generator = torch.Generator().manual_seed(seed)
    if trajectories is None:
        state = _start(features, config, seed, device, generator)
        return Adaptation({0: _weights(state.adapter)}, [], 0.0, 0.0)
    training, held = hold_back(trajectories, features.working_size, config.held_back, generator)
    probe = _probe_batches(held, len(frames), generator)
    favoured = None if foreground is None else _begins_inside(training, foreground)
    state = _start(features, config, seed, device, generator)
    if resume is not None:
        state.load_state_dict(resume)
    precision = pick_precision(config.precision, device)
    mean = mean_feature(features.values) if config.centre else None
    frozen = torch.cat([unit_length(some, mean) for some in features.values.split(16)])
    stepper = _Stepper(state.adapter, frozen, frames, config, device, precision)
    if not state.step:
        state.snapshots[0] = _weights(state.adapter)
        state.history.append({"step": 0, **stepper.measure(probe)})
    wanted = {step for step in config.snapshots if step < config.steps} | {config.steps}
    last_kept = time.monotonic()
    while state.step < config.steps:
        begin = time.perf_counter()
        batch = draw_pairs(
            training, len(frames), config.frames_per_step, config.pairs_per_frame, generator, favoured
        )
        row = {"step": state.step + 1, **stepper.step(batch, state.optimiser)}
        if not math.isfinite(row["loss"]):
            raise TrackerError(
                f"the adaptation diverged at step {row['step']}; lower adaptation.learning_rate "
                f"(now {config.learning_rate})"
            )
        state.scheduler.step()
        state.step += 1
        state.step_seconds.append(time.perf_counter() - begin)
        if state.step % config.evaluate_every == 0 or state.step == config.steps:
            row |= stepper.measure(probe)
        state.history.append(row)
        if state.step in wanted:
            state.snapshots[state.step] = _weights(state.adapter)
        if report is not None:
            report(state.step, row)
        stopping = stop is not None and state.step < config.steps and stop()
        if keep is not None and (stopping or time.monotonic() - last_kept > keep_every_s):
            keep(state.state_dict())
            last_kept = time.monotonic()
        if stopping:
            raise Interrupted(f"stopped after step {state.step} of {config.steps}")
    seconds = sorted(state.step_seconds)
    median = seconds[len(seconds) // 2] if seconds else 0.0
    return Adaptation(state.snapshots, state.history, median, sum(seconds))


class _Stepper:
    """One video's fixed inputs, and what a step and a measurement do with them."""

    def __init__(
        self,
        adapter: Adapter,
        frozen: Tensor,
        frames: Tensor,
        config: AdaptationConfig,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.adapter, self.frozen, self.frames = adapter, frozen, frames
        self.config, self.device, self.precision = config, device, precision

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
        losses = batch_losses(adapted, frozen, batch, self._stride, self._losses)
        total = torch.stack([getattr(self._losses, name) * value for name, value in losses.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), 1.0)
        optimiser.step()
        return {"loss": total.item(), "losses": {name: value.item() for name, value in losses.items()}}

    @torch.no_grad()
    def measure(self, probe: list[PairBatch]) -> dict[str, float]:
        """ "held_back_2px", the share of the probe's pairs that matching finds within 2 working pixels.

        Nothing where there is no probe.
        """
        if not probe:
            return {}
        self.adapter.eval()
        hits = []
        for batch in probe:
            adapted, _ = self.adapted(batch.frames)
            found = found_positions(adapted, batch.to(self.device), self._stride, self._losses)
            hits.append((found.cpu() - batch.target_xy).norm(dim=-1) <= 2.0)
        self.adapter.train()
        return {"held_back_2px": torch.cat(hits).float().mean().item()}

    @property
    def _stride(self) -> int:
        return self.adapter.stride_px

    @property
    def _losses(self) -> LossConfig:
        return self.config.losses


def _start(
    features: FeatureGrid,
    config: AdaptationConfig,
    seed: int,
    device: torch.device,
    generator: torch.Generator,
) -> LoopState:
    """An untrained adapter with its optimiser and schedule."""
    adapter = build_adapter(config.adapter, features.shape[1], config.width, seed)
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


def _weights(adapter: nn.Module) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in adapter.state_dict().items()}


def _probe_batches(held: Trajectories, frame_count: int, generator: torch.Generator) -> list[PairBatch]:
    """A fixed set of held-back pairs, drawn once, that every measurement uses; none where there are none."""
    if not len(held):
        return []
    try:
        return [draw_pairs(held, frame_count, 2, 64, generator) for _ in range(8)]
    except TrackerError:
        log.warning("adaptation: too few trajectories are held back to measure progress on; going on without")
        return []


def _begins_inside(trajectories: Trajectories, foreground: Tensor) -> Tensor:
    """Which trajectories (M,) begin inside the mask (T, H, W)."""
    x, y = trajectories.xy[trajectories.first].round().long().unbind(-1)
    _, height, width = foreground.shape
    return foreground[trajectories.start, y.clamp(0, height - 1), x.clamp(0, width - 1)]
