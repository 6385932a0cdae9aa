"""The optimisation: fit a residual adapter to one video's trajectories, step by step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adaptation.adapter import normalise_frames
from adaptation.buddies import BestBuddies
from adaptation.consistency import StepFrames, consistency_losses
from adaptation.objective import batch_losses, found_positions
from adaptation.prepare import PreparedFeatures
from adaptation.result import Adaptation
from adaptation.sampling import PairBatch, hold_out, sample_pairs, sample_pairs_uniformly
from adaptation.settings import AdaptationConfig
from adaptation.state import LoopState, start_state
from t4g_tracker.datatypes import Trajectories
from t4g_tracker.errors import Interrupted, TrackerError
from t4g_tracker.hardware import pick_precision
from t4g_tracker.matching.settings import MatchingConfig

log = logging.getLogger(__name__)

FOUND_WITHIN_PX = 2.0  # working pixels; what counts as found among held-out pairs


Save = Callable[[dict[str, Any]], None]
Report = Callable[[int, dict[str, Any]], None]


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
    buddies: BestBuddies | None = None,
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
        resume: A state that an earlier call passed to ``save``; the loop continues from there.
        save: Called with a resumable state every ``save_every_s`` seconds, and when
            ``stop`` ends the loop.
        save_every_s: Seconds between calls of ``save``.
        report: Called after each step with (step, newest history row).
        stop: Called between steps; True ends the loop there.
        foreground: (T, H, W) bool; half of the pairs then come from inside.
        buddies: Of the frozen features, for the loss ``frozen_buddies``.

    Returns:
        The fitted adapter, snapshots and history. The same seed on the same machine gives
        the same weights, resumed or not.

    Raises:
        Interrupted: If ``stop`` returned True; the state has gone to ``save``.
        TrackerError: If the loss stops being a number, or the trajectories cannot be paired.

    Source: the optimisation of DINO-Tracker, arXiv:2403.14548; the differences are in
    docs/design.md.
    """
    # One generator makes every random choice, in this order: held-out blocks, probe, the pairs of each step.
    generator = torch.Generator().manual_seed(seed)
    if trajectories is None:
        state = start_state(features.channels, config, seed, device, generator)
        state.snapshots[0] = state.weights()
        return _result(state, features, config)

    # Hold some trajectories out to measure progress on, and find those that begin in the foreground.
    training, held_out = hold_out(trajectories, features.working_size, config.held_out, generator)
    probe = _probe_batches(held_out, len(frames), generator)
    favoured = None if foreground is None else _begins_inside(training, foreground)

    # Start, or resume from a saved state; step 0 measures the frozen features.
    state = start_state(features.channels, config, seed, device, generator)
    if resume is not None:
        state.load_state_dict(resume)
    stepper = _Stepper(state, features.values, frames, config, matching, device, foreground, buddies)
    if not state.step:
        state.record({"step": 0, **stepper.measure(probe)}, snapshot=True)

    sample = sample_pairs if config.sampling == "stretch" else sample_pairs_uniformly
    last_saved = time.monotonic()
    while state.step < config.steps:
        # Sample pairs and take one step.
        begin = time.perf_counter()
        batch = sample(
            training, len(frames), config.frames_per_step, config.pairs_per_frame, generator, favoured
        )
        row = stepper.step(batch)
        state.step_seconds.append(time.perf_counter() - begin)

        # Measure and record progress.
        last = state.step == config.steps
        if last or state.step % config.evaluate_every == 0:
            row |= stepper.measure(probe)
        state.record(row, snapshot=last or state.step in config.snapshots)
        if report is not None:
            report(state.step, row)

        # Save once in a while, and before stopping.
        stopping = stop is not None and not last and stop()
        if save is not None and (stopping or time.monotonic() - last_saved > save_every_s):
            save(state.state_dict())
            last_saved = time.monotonic()
        if stopping:
            raise Interrupted(f"stopped after step {state.step} of {config.steps}")
    return _result(state, features, config)


class _Stepper:
    """Takes optimisation steps on one video, and measures the adapter between them."""

    def __init__(
        self,
        state: LoopState,
        frozen: Tensor,
        frames: Tensor,
        config: AdaptationConfig,
        matching: MatchingConfig,
        device: torch.device,
        foreground: Tensor | None,
        buddies: BestBuddies | None,
    ) -> None:
        self.state, self.adapter = state, state.adapter
        self.frozen, self.frames = frozen, frames
        self.config, self.matching, self.device = config, matching, device
        self.foreground, self.buddies = foreground, buddies
        self.precision = pick_precision(config.precision, device)
        self.stride_px = state.adapter.stride_px

    def adapted(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Adapted and frozen features of the frames ``which`` (F,)."""
        # both channels-last: the sum of two layouts would get the slower one
        frozen = self.frozen[which].to(self.device, self.precision, memory_format=torch.channels_last)
        frames = normalise_frames(self.frames[which].to(self.device))
        frames = frames.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            adapted = self.adapter(frames, frozen)
        return adapted, frozen

    @torch.enable_grad()
    def step(self, batch: PairBatch) -> dict[str, Any]:
        """Take one optimisation step and return its row: step, loss and the unweighted parts of the loss.

        Raises:
            TrackerError: If the loss is not finite.
        """
        state = self.state
        adapted, frozen = self.adapted(batch.frames)
        foreground = None if self.foreground is None else self.foreground[batch.frames]
        size = (int(self.frames.shape[2]), int(self.frames.shape[3]))
        frames = StepFrames(adapted, batch.frames, self.stride_px, size, foreground)
        batch = batch.to(self.device)
        weights = self.config.losses_at(state.step)
        losses = batch_losses(adapted, frozen, batch, self.stride_px, weights, self.matching, state.head)
        losses |= consistency_losses(
            frames, weights, self.matching, state.head, self.buddies, state.generator
        )
        total = torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
        state.optimiser.zero_grad(set_to_none=True)
        total.backward()
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(state.parameters, self.config.clip_norm)
        state.optimiser.step()
        state.scheduler.step()
        state.step += 1
        loss = total.item()
        if not math.isfinite(loss):
            raise TrackerError(
                f"the adaptation diverged at step {state.step}; lower adaptation.learning_rate "
                f"(now {self.config.learning_rate})"
            )
        parts = {name: value.item() for name, value in losses.items()}
        return {"step": state.step, "loss": loss, "losses": parts}

    @torch.no_grad()
    def measure(self, probe: list[PairBatch]) -> dict[str, float]:
        """Measure which share of the probe's pairs matching finds within 2 working pixels.

        Returns:
            The share as "held_out_2px"; nothing if the probe is empty.
        """
        if not probe:
            return {}
        self.adapter.eval()
        hits = []
        for batch in probe:
            adapted, _ = self.adapted(batch.frames)
            search = batch.to(self.device)
            found = found_positions(adapted, search, self.stride_px, self.matching, self.state.head)
            hits.append((found.cpu() - batch.target_xy).norm(dim=-1) <= FOUND_WITHIN_PX)
        self.adapter.train()
        return {"held_out_2px": torch.cat(hits).float().mean().item()}


def _result(state: LoopState, features: PreparedFeatures, config: AdaptationConfig) -> Adaptation:
    """The snapshots and history, with everything needed to rebuild the adapter."""
    ordered = sorted(state.step_seconds)
    return Adaptation(
        kind=config.adapter,
        channels=features.channels,
        width=config.width,
        head_kind=config.head,
        centre=features.centred,
        unit_length=features.unit_length,
        precision=config.precision,
        snapshots=state.snapshots,
        history=state.history,
        seconds_per_step=ordered[len(ordered) // 2] if ordered else 0.0,
        seconds=sum(ordered),
    )


def _probe_batches(held_out: Trajectories, frame_count: int, generator: torch.Generator) -> list[PairBatch]:
    """Sample the held-out pairs that every measurement uses; none if nothing is held out."""
    if not len(held_out):
        return []
    try:
        return [sample_pairs(held_out, frame_count, 2, 64, generator) for _ in range(8)]
    except TrackerError:
        log.warning(
            "adaptation: too few trajectories are held out to measure progress; continuing without measuring"
        )
        return []


def _begins_inside(trajectories: Trajectories, foreground: Tensor) -> Tensor:
    """Which trajectories (M,) begin inside the mask (T, H, W)."""
    x, y = trajectories.xy[trajectories.first].round().long().unbind(-1)
    _, height, width = foreground.shape
    return foreground[trajectories.begin, y.clamp(0, height - 1), x.clamp(0, width - 1)]
