"""One optimisation step after another on one video, and how well matching does in between.

Nothing in a step is meant to wait for the device: inputs are sent from pinned memory, and losses stay there
until ``read`` fetches those of many steps at once.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor

from adaptation.adapter import normalise_frames
from adaptation.buddies import BestBuddies
from adaptation.captured import CapturedPass, StepInputs
from adaptation.consistency import StepFrames, consistency_losses
from adaptation.objective import batch_losses, found_positions
from adaptation.sampling import PairBatch, sent
from adaptation.settings import AdaptationConfig
from adaptation.state import LoopState
from adaptation.windows import CELL_PX, window_size
from t4g_tracker.errors import TrackerError
from t4g_tracker.hardware import pick_precision
from t4g_tracker.matching.settings import MatchingConfig

log = logging.getLogger(__name__)

FOUND_WITHIN_PX = 2.0  # working pixels; what counts as found among held-out pairs
READ_TOGETHER = 50  # steps on a GPU whose losses are read back together
PLAIN_FIRST = 3  # steps on a GPU before one is recorded, in which libraries set themselves up
RESIDENT_SHARE = 0.5  # of the memory that a GPU has left that a video's frames and features may take


class Stepper:
    """Takes optimisation steps on one video, and measures the adapter between them.

    Args:
        state: What the steps change.
        frozen: (T, C, h, w) float16 prepared features.
        frames: (T, 3, H, W) uint8 at the working size.
        config, matching: As for ``adapt``.
        device: Where to compute. Frames and features are moved there if they fit.
        foreground, buddies: As for ``adapt``.
        capture: Whether to replay steps from a CUDA graph where that can be done.
    """

    def __init__(
        self,
        state: LoopState,
        frozen: Tensor,
        frames: Tensor,
        config: AdaptationConfig,
        matching: MatchingConfig,
        device: torch.device,
        foreground: Tensor | None = None,
        buddies: BestBuddies | None = None,
        *,
        capture: bool = True,
    ) -> None:
        self.state, self.adapter = state, state.adapter
        self.config, self.matching, self.device = config, matching, device
        self.foreground, self.buddies = foreground, buddies
        self.precision = pick_precision(config.precision, device)
        self.stride_px = state.adapter.stride_px
        self.size = (int(frames.shape[2]), int(frames.shape[3]))
        self._resident = _fits(device, frozen, frames)
        if self._resident:
            frozen, frames = frozen.to(device), frames.to(device)
        self.frozen, self.frames = frozen, frames
        self._between_frames = config.losses.between_frames
        constant = config.samples_pairs_alone  # shapes of all that is computed
        window = window_size(self.size, config.window) if constant else self.size
        fits = tuple(frozen.shape[-2:]) == tuple(side // CELL_PX for side in self.size)
        self.window = (self.size, window) if fits and window != self.size else None
        self._capture = capture and constant and device.type == "cuda"
        self._captured: CapturedPass | None = None
        self._plain_steps = 0
        self._unread: list[tuple[list[str], Tensor]] = []
        self._names: list[str] = []

    def step(self, batch: PairBatch) -> None:
        """Take one optimisation step; ``read`` tells its losses."""
        inputs = self._gather(batch)
        losses = self._replay(inputs) if self._capture else self._pass(inputs)
        self.state.optimiser.step()
        self.state.scheduler.step()
        self.state.step += 1
        self._unread.append((self._names, losses))

    @property
    def full(self) -> bool:
        """Whether it is time to read the losses of the steps taken."""
        return len(self._unread) >= (READ_TOGETHER if self.device.type == "cuda" else 1)

    def read(self) -> list[dict[str, Any]]:
        """Fetch the losses of all steps since the last call: of each its number, loss and unweighted parts.

        Raises:
            TrackerError: If a loss is not finite.
        """
        unread, self._unread = self._unread, []
        values = iter(torch.cat([losses for _, losses in unread]).tolist())
        first = self.state.step - len(unread) + 1
        rows = []
        for step, (names, _) in enumerate(unread, first):
            loss = next(values)
            if not math.isfinite(loss):
                raise TrackerError(
                    f"the adaptation diverged at step {step}; lower adaptation.learning_rate "
                    f"(now {self.config.learning_rate})"
                )
            rows.append({"step": step, "loss": loss, "losses": {name: next(values) for name in names}})
        return rows

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
            inputs = self._gather(batch)
            adapted = self._adapt(inputs.frames, self._cast(inputs.frozen))
            found = found_positions(adapted, inputs.batch, self.stride_px, self.matching, self.state.head)
            hits.append((found - inputs.batch.target_xy).norm(dim=-1) <= FOUND_WITHIN_PX)
        self.adapter.train()
        return {"held_out_2px": torch.cat(hits).float().mean().item()}

    def _gather(self, batch: PairBatch) -> StepInputs:
        """Bring what a batch needs to the device."""
        there = batch.to(self.device)
        which = there.frames if self._resident else batch.frames
        frames, frozen = self.frames[which], self.frozen[which]
        if batch.windows is not None:
            frames, frozen = batch.windows.cut(frames), batch.windows.cut(frozen, CELL_PX)
        return StepInputs(sent(frames, self.device), sent(frozen, self.device), there)

    def _cast(self, frozen: Tensor) -> Tensor:
        # channels-last as frames are: the sum of two layouts would get the slower one
        return frozen.to(self.precision, memory_format=torch.channels_last)

    def _adapt(self, frames: Tensor, frozen: Tensor) -> Tensor:
        """Adapted features of frames (F, 3, H, W) uint8 and frozen features (F, C, h, w)."""
        frames = normalise_frames(frames).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            adapted: Tensor = self.adapter(frames, frozen)
        return adapted

    @torch.enable_grad()
    def _pass(self, inputs: StepInputs) -> Tensor:
        """Forward and backward pass: leaves gradients, and returns the loss and its parts (1 + L,)."""
        state, batch = self.state, inputs.batch
        frozen = self._cast(inputs.frozen)
        adapted = self._adapt(inputs.frames, frozen)
        weights = self.config.losses_at(state.step)
        losses = batch_losses(adapted, frozen, batch, self.stride_px, weights, self.matching, state.head)
        if self._between_frames:
            losses |= self._losses_between_frames(adapted, batch)
        parts = torch.stack(list(losses.values()))
        total = torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
        state.optimiser.zero_grad(set_to_none=True)
        total.backward()
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(state.parameters, self.config.clip_norm)
        self._names = list(losses)
        return torch.cat([total[None], parts]).detach()

    def _losses_between_frames(self, adapted: Tensor, batch: PairBatch) -> dict[str, Tensor]:
        chosen = batch.frames.cpu()
        foreground = None if self.foreground is None else self.foreground[chosen]
        step = StepFrames(adapted, chosen, self.stride_px, self.size, foreground)
        weights, state = self.config.losses_at(self.state.step), self.state
        return consistency_losses(step, weights, self.matching, state.head, self.buddies, state.generator)

    def _replay(self, inputs: StepInputs) -> Tensor:
        """The pass from a CUDA graph, recorded after the first steps; a plain one where that fails."""
        if self._captured is None and self._plain_steps >= PLAIN_FIRST:
            try:
                self._captured = CapturedPass(self._pass, inputs)
            except RuntimeError as error:
                log.warning("adaptation: no CUDA graph of a step can be made, which is slower: %s", error)
                log.debug("where it failed", exc_info=True)
                self._capture = False
        if self._captured is not None:
            return self._captured(inputs)
        self._plain_steps += 1
        return self._pass(inputs)


def _fits(device: torch.device, *tensors: Tensor) -> bool:
    """Whether tensors may lie on a device during the whole optimisation."""
    if device.type != "cuda":
        return device.type == "cpu"
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return sum(tensor.nbytes for tensor in tensors) <= RESIDENT_SHARE * (free + unused)
