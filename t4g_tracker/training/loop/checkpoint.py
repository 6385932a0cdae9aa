"""The state of a training on disk: written whole or not at all, resumed only by the same training."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from t4g_tracker.errors import CacheError
from t4g_tracker.identity import refuse
from t4g_tracker.storage.torch_files import load_torch, peek, save_torch

log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """The progress of a training."""

    step: int = 0
    seconds: float = 0.0


def batch_of(path: Path) -> int | None:
    """Read the batch that the training of a checkpoint takes; None if there is none or it cannot be read."""
    try:
        batch = json.loads(peek(path, "identity"))["trainer"]["batch"]
    except (TypeError, ValueError, KeyError):
        return None
    return batch if isinstance(batch, int) else None


@dataclass(frozen=True)
class Checkpoint:
    """A file, and the parts of the training whose state it holds."""

    path: Path
    identity: dict[str, Any]  # settings and seed of the training, plain JSON values
    model: nn.Module
    averaged: AveragedModel
    optimiser: Any

    def save(self, state: TrainingState) -> None:
        """Replace the file.

        Raises:
            OutputError: If it cannot be written.
        """
        payload = {
            "identity": json.dumps(self.identity, sort_keys=True),
            "step": state.step,
            "seconds": state.seconds,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_torch(self.path, payload, "--out")

    def resume(self) -> TrainingState:
        """Load the state from the file; without a file, nothing changes.

        Raises:
            CacheError: If the file is damaged or cannot be read, or belongs to a training with other
                settings; names them.
        """
        try:
            saved = load_torch(self.path, "--out", "delete it, or give another --out")
        except FileNotFoundError:
            return TrainingState()
        identity = json.loads(saved["identity"])
        refuse(
            self.path, identity, self.identity, "use the same settings, or another --out, or delete the file"
        )
        try:
            self.model.load_state_dict(saved["model"])
            self.averaged.load_state_dict(saved["averaged"])
            self.optimiser.load_state_dict(saved["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CacheError(
                f"{self.path}: does not fit the model of this version; delete it, or give another --out"
            ) from error
        log.info("resuming from step %d of %s", saved["step"], self.path.parent)
        return TrainingState(saved["step"], saved["seconds"])
