"""The training objective of RAFT: flow both ways between two frames, compared with exact flow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.optical_flow import RAFT, raft_small

from t4g_tracker.flow.raft import KnownEncoding, load_raft
from t4g_tracker.limits import Limits, check_limits
from t4g_tracker.storage.files import atomic_write
from t4g_tracker.synthetic.clips import FlowPair
from t4g_tracker.training.flow.crops import FlowBatch


@dataclass(frozen=True, kw_only=True)
class FlowObjectiveConfig:
    """The loss of ``t4g train-flow``."""

    updates: int = 4  # recurrent updates in training
    decay: float = 0.8  # weight of an update's error, relative to that of the next
    power: float = 0.7  # of the error; below 1 small errors count more, for sub-pixel accuracy
    hidden: float = 0.3  # weight of pixels whose point is hidden in the other frame

    LIMITS: ClassVar[Limits] = {"updates": (1, 100), "decay": (0.01, 1), "power": (0.01, 1), "hidden": (0, 1)}

    def __post_init__(self) -> None:
        check_limits(self, "objective")


class FlowObjective(nn.Module):
    """torchvision's RAFT with its training loss."""

    def __init__(self, model: RAFT, config: FlowObjectiveConfig) -> None:
        super().__init__()
        self.raft, self.config = model, config

    def forward(self, batch: FlowBatch) -> dict[str, Tensor]:
        """Compute "loss", and "epe": the last update's mean end-point error in pixels, of visible points."""
        pixels = batch.images.transpose(0, 1).float() / 127.5 - 1
        flow = batch.flow.transpose(0, 1).flatten(0, 1)
        seen = batch.seen.transpose(0, 1).flatten(0, 1)
        known = batch.known.transpose(0, 1).flatten(0, 1)
        flows = flow_both_ways(self.raft, pixels[0], pixels[1], self.config.updates)
        weight = torch.where(seen, 1.0, self.config.hidden) * known
        loss = sequence_loss(flows, flow, weight, self.config.decay, self.config.power)
        with torch.no_grad():
            error = (flows[-1].float() - flow).norm(dim=1)
            counted = seen & known
            epe = (error * counted).sum() / counted.sum().clamp(min=1)
        return {"loss": loss, "epe": epe}


def new_raft(weights: str, seed: int) -> RAFT:
    """Make a trainable ``raft_small`` with random weights, or with those of the file ``weights``.

    Raises:
        WeightsError: If the file cannot be read or does not fit.
    """
    if weights:
        return load_raft("raft-small", weights, torch.device("cpu")).train().requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: RAFT = raft_small(weights=None)
    return model


def save_raft(model: RAFT, path: Path) -> None:
    """Write a RAFT's weights in half precision, under torchvision's names.

    Raises:
        OutputError: If the file cannot be written.
    """
    state = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in model.state_dict().items()
    }
    with atomic_write(path) as temporary:
        save_file(state, temporary)


def flow_both_ways(model: RAFT, first: Tensor, second: Tensor, updates: int) -> list[Tensor]:
    """Compute the flow from the first frames to the second ones and back, encoding each frame once.

    Args:
        model: torchvision's RAFT.
        first: (B, 3, h, w) in -1..1.
        second: (B, 3, h, w) in -1..1.
        updates: Recurrent updates, at least 1.

    Returns:
        For each update (2B, 2, h, w) pixels: the forward flows, then the backward ones.
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


def sequence_loss(flows: list[Tensor], truth: Tensor, weight: Tensor, decay: float, power: float) -> Tensor:
    """Compute the error of every update's flow; later updates count more.

    Args:
        flows: U flows (B, 2, h, w), pixels, in the order of the updates.
        truth: (B, 2, h, w) exact flow, pixels.
        weight: (B, h, w) weight of each pixel, 0 or more.
        decay: Update u of U has the weight ``decay ** (U - 1 - u)``.
        power: Exponent of the distance, in 0..1. Distances below 0.01 px hardly count.

    Returns:
        The weighted mean over pixels of distance to that power, summed over updates; a scalar.

    Source: the sequence loss of RAFT, arXiv:2003.12039, with the robust distance of PWC-Net's
    fine-tuning, arXiv:1709.02371.
    """
    total = truth.new_zeros(())
    for update, flow in enumerate(flows):
        distance = ((flow.float() - truth).square().sum(dim=1) + 0.01**2) ** (power / 2)
        mean = (distance * weight).sum() / weight.sum().clamp(min=1)
        total = total + decay ** (len(flows) - 1 - update) * mean
    return total


@dataclass(frozen=True)
class FlowValidation:
    """End-point error on held-out pairs."""

    pairs: list[FlowPair]
    updates: int = 8

    @torch.no_grad()
    def __call__(self, objective: FlowObjective) -> dict[str, float]:
        """Measure "val_epe" and "val_median": mean and median over all pixels of all pairs, in pixels."""
        errors = []
        device = next(objective.parameters()).device
        for pair in self.pairs:
            frames = torch.stack([pair.first, pair.second]).to(device).float() / 127.5 - 1
            flow = flow_both_ways(objective.raft, frames[:1], frames[1:], self.updates)[-1].float()
            truth = torch.stack([pair.forward, pair.backward]).to(device)
            errors.append((flow - truth).norm(dim=1).flatten())
        error = torch.cat(errors)
        return {"val_epe": float(error.mean()), "val_median": float(error.median())}
