"""The result of an adaptation: weights, their history, and all that rebuilding the adapter needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adaptation.adapter import Adapter, apply_adapter, build_adapter, build_head
from adaptation.prepare import PreparedFeatures
from t4g_tracker.choices import AdapterKind, HeadKind, Precision
from t4g_tracker.datatypes import Empty, FeatureGrid
from t4g_tracker.hardware import pick_precision
from t4g_tracker.matching.head import CostMapHead

Weights = dict[str, Tensor]
HEAD = "head."  # begins the names of the weights of a head, beside those of the adapter


@dataclass(frozen=True)
class Adaptation:
    """An adapter, and perhaps a head, fitted to one video: their weights at the end and at chosen steps."""

    kind: AdapterKind
    channels: int  # of the features it was fitted on
    width: int
    head_kind: HeadKind
    centre: bool  # whether those features were centred
    unit_length: bool  # whether they were scaled to unit length
    components: int  # how many of their principal components were kept; 0: all
    precision: Precision  # of the adapter's computation
    snapshots: dict[int, Weights]  # step to weights; always holds 0 and the last step
    history: list[dict[str, Any]]  # step, loss, losses; held_out_2px where it was measured
    seconds_per_step: float  # median
    seconds: float  # of all steps, those before an interruption included

    @property
    def last_step(self) -> int:
        return max(self.snapshots)

    @property
    def found(self) -> float | None:
        """Share of held-out trajectories that matching found at the end, 0..1; None if none was held out."""
        shares = [row["held_out_2px"] for row in self.history if "held_out_2px" in row]
        return shares[-1] if shares else None

    def adapter(self, step: int | None = None) -> Adapter:
        """Rebuild the adapter as it was after ``step`` steps; None is the last, 0 changes nothing.

        Raises:
            ValueError: If the weights of that step were not saved.
        """
        adapter = build_adapter(self.kind, self.channels, self.width, seed=0)
        weights = self._weights(step).items()
        adapter.load_state_dict({name: value for name, value in weights if not name.startswith(HEAD)})
        return adapter

    def head(self, step: int | None = None) -> CostMapHead | None:
        """Rebuild the head of cost maps as it was after ``step`` steps; None if matching is a plain softmax.

        Raises:
            ValueError: If the weights of that step were not saved.
        """
        weights, head = self._weights(step).items(), build_head(self.head_kind, seed=0)
        if head is not None:
            head.load_state_dict(
                {name.removeprefix(HEAD): value for name, value in weights if name.startswith(HEAD)}
            )
        return head

    def _weights(self, step: int | None) -> Weights:
        step = self.last_step if step is None else step
        if step not in self.snapshots:
            raise ValueError(f"weights of step {step} were not saved; saved: {sorted(self.snapshots)}")
        return self.snapshots[step]

    def apply(
        self,
        features: PreparedFeatures,
        frames: Tensor,
        device: torch.device | None = None,
        step: int | None = None,
        empty: Empty = torch.empty,
    ) -> FeatureGrid:
        """Correct the features of the whole video.

        Args:
            features: Of T frames, prepared like those that the adapter was fitted on.
            frames: (T, 3, H, W) uint8 at the working size.
            device: Where to compute; None takes the CPU.
            step: Which snapshot; None is the last.
            empty: Makes the result.

        Returns:
            The adapted grid at unit length, half precision, on the CPU.

        Raises:
            ValueError: If channels or preparation of the features are not those of the fit, or
                there is no such snapshot.
        """
        fitted, given = (
            f"{channels} channels, centre={centre}, unit_length={unit_length} and components={components}"
            for channels, centre, unit_length, components in (
                (self.channels, self.centre, self.unit_length, self.components),
                (features.channels, features.centred, features.unit_length, features.components),
            )
        )
        if fitted != given:
            raise ValueError(f"the adapter was fitted on features of {fitted}; these have {given}")
        device = device or torch.device("cpu")
        adapter = self.adapter(step).to(device)
        precision = pick_precision(self.precision, device)
        return apply_adapter(adapter, features, frames, device, precision, empty=empty)
