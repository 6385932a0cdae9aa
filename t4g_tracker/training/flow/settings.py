"""Settings of ``t4g train-flow``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from t4g_tracker.limits import Limits, check_limits
from t4g_tracker.training.flow.crops import PairsConfig
from t4g_tracker.training.flow.objective import FlowObjectiveConfig
from t4g_tracker.training.loop.settings import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class FlowTraining:
    """Settings of ``t4g train-flow``."""

    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(batch=2, learning_rate=4e-4, validate_every=500)
    )
    pairs: PairsConfig = field(default_factory=PairsConfig)
    objective: FlowObjectiveConfig = field(default_factory=FlowObjectiveConfig)
    validation: int = 8  # pairs to measure progress on

    LIMITS: ClassVar[Limits] = {"validation": (1, 1000)}

    def __post_init__(self) -> None:
        check_limits(self)
