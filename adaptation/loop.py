"""The optimisation: fit a residual adapter to one video's trajectories, step by step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adaptation.buddies import BestBuddies
from adaptation.prepare import PreparedFeatures
from adaptation.result import Adaptation
from adaptation.sampling import PairBatch, hold_out, joined, sample_pairs, sample_pairs_uniformly
from adaptation.settings import AdaptationConfig
from adaptation.state import LoopState, start_state
from adaptation.stepper import Stepper
from t4g_tracker.datatypes import Trajectories
from t4g_tracker.errors import Interrupted, TrackerError
from t4g_tracker.matching.settings import MatchingConfig

log = logging.getLogger(__name__)


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
        report: Called with (step, newest history row) after each step; on a GPU once for all steps whose
            losses are read back together.
        stop: Called between steps; True ends the loop there.
        foreground: (T, H, W) bool; half of the pairs then come from inside.
        buddies: Of the frozen features, for the loss ``frozen_buddies``.

    Returns:
        The fitted adapter, snapshots and history. The same seed on the same machine gives
        the same weights, resumed or not; on the CPU, since CUDA adds up gradients in varying order.

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
        state.keep_weights()
        return _result(state, features, config)

    # Hold some trajectories out to measure progress on, and find those that begin in the foreground.
    training, held_out = hold_out(trajectories, features.working_size, config.held_out, generator)
    probe = _probe(held_out, len(frames), generator)
    favoured = None if foreground is None else _begins_inside(training, foreground)

    # Start, or resume from a saved state; step 0 measures the frozen features.
    state = start_state(features.channels, config, seed, device, generator)
    if resume is not None:
        state.load_state_dict(resume)
    stepper = Stepper(state, features.values, frames, config, matching, device, foreground, buddies)
    if not state.step:
        state.history.append({"step": 0, **stepper.measure(probe)})
        state.keep_weights()

    sample = sample_pairs_uniformly
    if config.sampling == "stretch":
        # A window may not hold the foreground that half of the pairs are to come from.
        sample = partial(sample_pairs, window=stepper.window if favoured is None else None)
    last_saved, begin = time.monotonic(), time.perf_counter()
    finished = _finished(state, config)
    while not finished:
        # Sample pairs and take one step.
        batch = sample(
            training, len(frames), config.frames_per_step, config.pairs_per_frame, generator, favoured
        )
        stepper.step(batch)

        # Go on at once unless there is something to do that has to wait for the device.
        last = state.step == config.steps
        snapshot = last or state.step in config.snapshots
        evaluate = last or state.step % config.evaluate_every == 0
        if not (snapshot or evaluate or stepper.full):
            continue

        # Read the losses; measure and record progress.
        rows = stepper.read()
        state.step_seconds += [(time.perf_counter() - begin) / len(rows)] * len(rows)
        if evaluate:
            rows[-1] |= stepper.measure(probe)
        state.history += rows
        finished = _finished(state, config)
        if snapshot or finished:
            state.keep_weights()
        if report is not None:
            report(state.step, rows[-1])

        # Save once in a while, and before stopping.
        stopping = stop is not None and not finished and stop()
        if save is not None and (stopping or time.monotonic() - last_saved > save_every_s):
            save(state.state_dict())
            last_saved = time.monotonic()
        if stopping:
            raise Interrupted(f"stopped after step {state.step} of {config.steps}")
        begin = time.perf_counter()
    if state.step < config.steps:
        log.info("adaptation: held-out trajectories no longer improve; ended after step %d", state.step)
    return _result(state, features, config)


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
        components=features.components,
        precision=config.precision,
        snapshots=state.snapshots,
        history=state.history,
        seconds_per_step=ordered[len(ordered) // 2] if ordered else 0.0,
        seconds=sum(ordered),
    )


def _finished(state: LoopState, config: AdaptationConfig) -> bool:
    """Whether all steps are taken, or held-out trajectories no longer improve.

    They do not if the last ``config.patience`` measurements on them are no better than one before.
    """
    patience = config.patience
    if state.step == config.steps or not patience:
        return state.step == config.steps
    shares = [row["held_out_2px"] for row in state.history if "held_out_2px" in row]
    return patience < len(shares) and max(shares[-patience:]) <= max(shares[:-patience])


def _probe(held_out: Trajectories, frame_count: int, generator: torch.Generator) -> list[PairBatch]:
    """Sample the held-out pairs of every measurement, in batches of four frames; none if none is held out."""
    if not len(held_out):
        return []
    try:
        batches = [sample_pairs(held_out, frame_count, 2, 64, generator) for _ in range(8)]
        return [joined(batches[first : first + 2]) for first in range(0, len(batches), 2)]
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
