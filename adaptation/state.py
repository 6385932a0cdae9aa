"""The state of an optimisation: all that changes from step to step, and what resuming needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from adaptation.adapter import Adapter, build_adapter, build_head
from adaptation.result import HEAD, Weights
from adaptation.settings import AdaptationConfig
from t4g_tracker.matching.head import CostMapHead


@dataclass
class LoopState:
    """Everything that an interrupted optimisation needs to resume as if it had not stopped."""

    step: int
    adapter: Adapter
    head: CostMapHead | None
    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    snapshots: dict[int, Weights] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that the optimiser changes."""
        return [*self.adapter.parameters(), *([] if self.head is None else self.head.parameters())]

    def weights(self) -> Weights:
        """The weights of adapter and head as they are now, on the CPU; the head's are named "head." first."""
        named = dict(self.adapter.state_dict())
        if self.head is not None:
            named |= self.head.state_dict(prefix=HEAD)
        return {name: value.detach().cpu().clone() for name, value in named.items()}

    def keep_weights(self) -> None:
        """Add the current weights to the snapshots."""
        self.snapshots[self.step] = self.weights()

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors, for ``torch.save``."""
        return {
            "step": self.step,
            "adapter": self.adapter.state_dict(),
            "head": None if self.head is None else self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "snapshots": self.snapshots,
            "history": self.history,
            "step_seconds": self.step_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state, strictly."""
        self.adapter.load_state_dict(state["adapter"])
        if self.head is not None:
            self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["generator"])
        self.step = state["step"]
        self.snapshots, self.history = state["snapshots"], state["history"]
        self.step_seconds = state["step_seconds"]


def start_state(
    channels: int,
    config: AdaptationConfig,
    seed: int,
    device: torch.device,
    generator: torch.Generator,
) -> LoopState:
    """Make an untrained adapter and head with their optimiser and schedule, at step 0.

    Args:
        channels: C of the frozen features.
        config: Adapter, head, optimiser, schedule and number of steps.
        seed: Of the first weights.
        device: Where to optimise.
        generator: Source of the random numbers of every step.
    """
    adapter = build_adapter(config.adapter, channels, config.width, seed)
    adapter = adapter.to(device).to(memory_format=torch.channels_last)
    head = build_head(config.head, seed)
    groups: list[dict[str, Any]] = [{"params": list(adapter.parameters())}]
    if head is not None:
        groups.append({"params": list(head.to(device).parameters())})
    optimiser = torch.optim.AdamW(
        groups,
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
        factors: list[Any] = [_falling, _constant][: len(groups)]  # as published, the head's rate stays
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factors)
    return LoopState(0, adapter, head, optimiser, scheduler, generator)


def _falling(step: int) -> float:
    return 0.999 ** (step // 40)


def _constant(step: int) -> float:
    return 1.0
