"""Settings of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from t4g_tracker.choices import Precision
from t4g_tracker.limits import HUGE, Limits, check_limits


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How any objective is optimised."""

    steps: int = 100_000  # largest number; a time budget may end training earlier
    batch: int | None = 8  # items per step and process; null: as many as the GPU holds, on a CPU two
    learning_rate: float = 4e-4  # at its highest
    weight_decay: float = 1e-4  # of AdamW
    warm_up: float = 0.05  # share of the training in which the learning rate rises; then a cosine to 0
    clip_norm: float = 1.0  # of the gradient, over all weights
    averaging: float = 0.999  # decay of the moving average of the weights, which is the result
    precision: Precision = "auto"  # auto: bfloat16 where the device is fast at it
    validate_every: int = 500  # steps between validations
    save_every_s: float = 120.0  # seconds between checkpoints
    workers: int | None = None  # processes that generate batches ahead; null: one, with a GPU up to 16

    LIMITS: ClassVar[Limits] = {
        "steps": (1, HUGE),
        "batch": (1, 1024),
        "learning_rate": (1e-9, 10),
        "weight_decay": (0, 10),
        "warm_up": (0, 0.99),
        "clip_norm": (1e-6, 1e6),
        "averaging": (0, 0.999_999),
        "validate_every": (1, HUGE),
        "save_every_s": (0, HUGE),
        "workers": (0, 256),
    }

    def __post_init__(self) -> None:
        check_limits(self, "trainer")
