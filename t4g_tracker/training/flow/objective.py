"""What RAFT is trained for: flow both ways between two frames, at every update, to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.optical_flow import RAFT, raft_small

from t4g_tracker.errors import ConfigError
from t4g_tracker.flow.raft import KnownEncoding, load_raft
from t4g_tracker.synthetic.clips import FlowPair
from t4g_tracker.training.flow.views import FlowBatch


@dataclass(frozen=True, kw_only=True)
class FlowObjectiveConfig:
    """The loss of ``t4g train-flow``."""

    updates: int = 4  # recurrent updates of a pair while training
    decay: float = 0.8  # weight of an update's error, relative to that of the next
    power: float = 0.7  # of the error; below 1 small errors count more, which makes for sub-pixel precision
    hidden: float = 0.3  # weight of pixels whose point is not seen in the other frame

    def __post_init__(self) -> None:
        if self.updates < 1:
            raise ConfigError(f"objective.updates must be at least 1, got {self.updates}")
        if not 0 < self.decay <= 1 or not 0 < self.power <= 1 or not 0 <= self.hidden <= 1:
            raise ConfigError("objective: decay and power must be in 0..1 but not 0, and hidden in 0..1")


class FlowObjective(nn.Module):
    """torchvision's RAFT with the loss it is trained by."""

    def __init__(self, model: RAFT, config: FlowObjectiveConfig) -> None:
        super().__init__()
        self.raft, self.config = model, config

    def forward(self, batch: FlowBatch) -> dict[str, Tensor]:
        """ "loss", and "epe", the last update's mean end-point error in pixels where the point is seen."""
        pixels = batch.images.transpose(0, 1).float() / 127.5 - 1
        flow = batch.flow.transpose(0, 1).flatten(0, 1)
        seen, known = (mask.transpose(0, 1).flatten(0, 1) for mask in (batch.seen, batch.known))
        found = flow_both_ways(self.raft, pixels[0], pixels[1], self.config.updates)
        weight = torch.where(seen, 1.0, self.config.hidden) * known
        loss = sequence_loss(found, flow, weight, self.config.decay, self.config.power)
        with torch.no_grad():
            error = (found[-1].float() - flow).norm(dim=1)
            counted = seen & known
            epe = (error * counted).sum() / counted.sum().clamp(min=1)
        return {"loss": loss, "epe": epe}


def new_raft(weights: str, seed: int) -> RAFT:
    """``raft_small`` with new random weights, or with those of a file; all of them trainable.

    Raises:
        WeightsError: If the file cannot be read or does not fit.
    """
    if weights:
        return load_raft("raft-small", weights, torch.device("cpu")).train().requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: RAFT = raft_small(weights=None)
    return model


def flow_both_ways(model: RAFT, first: Tensor, second: Tensor, updates: int) -> list[Tensor]:
    """Flow from the first frames to the second ones and back, each frame encoded once.

    Args:
        model: torchvision's RAFT.
        first: (B, 3, h, w) in -1..1.
        second: (B, 3, h, w) in -1..1.
        updates: Recurrent updates, at least 1.

    Returns:
        One (2B, 2, h, w) for each update, pixels: forward flows, then backward ones.
    """
    frames = torch.cat([first, second])
    ahead, behind = model.feature_encoder(frames).chunk(2)
    both = RAFT(
        feature_encoder=KnownEncoding(torch.cat([ahead, behind, behind, ahead])),
        context_encoder=KnownEncoding(model.context_encoder(frames)),
        corr_block=model.corr_block,
        update_block=model.update_block,
        mask_predictor=model.mask_predictor,
    )
    flows: list[Tensor] = both(frames, torch.cat([second, first]), num_flow_updates=updates)
    return flows


def sequence_loss(found: list[Tensor], flow: Tensor, weight: Tensor, decay: float, power: float) -> Tensor:
    """Error of every update's flow, later updates counting more.

    Args:
        found: U flows (B, 2, h, w), pixels, in the order of the updates.
        flow: (B, 2, h, w) the truth.
        weight: (B, h, w) of each pixel, 0 or more.
        decay: Update u of U counts ``decay ** (U - 1 - u)``.
        power: Of the distance, 0..1; distances below 0.01 px hardly count.

    Returns:
        The weighted mean over pixels of distance to that power, summed over updates; a scalar.

    Source: the sequence loss of RAFT, arXiv:2003.12039, with the robust distance of PWC-Net's
    fine-tuning, arXiv:1709.02371.
    """
    total = flow.new_zeros(())
    for update, guess in enumerate(found):
        distance = ((guess.float() - flow).square().sum(dim=1) + 0.01**2) ** (power / 2)
        mean = (distance * weight).sum() / weight.sum().clamp(min=1)
        total = total + decay ** (len(found) - 1 - update) * mean
    return total


@dataclass(frozen=True)
class FlowValidation:
    """End-point error on pairs kept apart from training."""

    pairs: list[FlowPair]
    updates: int = 8

    @torch.no_grad()
    def __call__(self, objective: FlowObjective) -> dict[str, float]:
        """ "val_epe" and "val_median", pixels over all pixels of all pairs."""
        errors = []
        device = next(objective.parameters()).device
        for pair in self.pairs:
            frames = torch.stack([pair.first, pair.second]).to(device).float() / 127.5 - 1
            found = flow_both_ways(objective.raft, frames[:1], frames[1:], self.updates)[-1].float()
            truth = torch.stack([pair.forward, pair.backward]).to(device)
            errors.append((found - truth).norm(dim=1).flatten())
        error = torch.cat(errors)
        return {"val_epe": float(error.mean()), "val_median": float(error.median())}
