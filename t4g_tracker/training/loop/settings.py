"""Settings of the training loop."""

from __future__ import annotations

from dataclasses import dataclass

from t4g_tracker.choices import Precision
from t4g_tracker.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How any objective is optimised."""

    steps: int = 100_000  # largest number; a time budget may end training earlier
    batch: int = 8  # items per step and process
    learning_rate: float = 4e-4  # at its highest
    weight_decay: float = 1e-4  # of AdamW
    warm_up: float = 0.05  # share of the training in which the learning rate rises; then a cosine to 0
    clip_norm: float = 1.0  # of the gradient, over all weights
    averaging: float = 0.999  # decay of the moving average of the weights, which is the result
    precision: Precision = "auto"  # auto: bfloat16 where the device is fast at it
    validate_every: int = 500  # steps between validations
    save_every_s: float = 120.0  # seconds between checkpoints
    workers: int | None = None  # processes that generate batches ahead; null: one, with a GPU up to eight

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("validate_every", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"trainer.{name} must be at least {least}, got {value}")
        if self.learning_rate <= 0 or self.weight_decay < 0 or self.clip_norm <= 0:
            raise ConfigError(
                "trainer: learning_rate and clip_norm must be positive, and weight_decay 0 or more"
            )
        if not 0 <= self.warm_up < 1 or not 0 <= self.averaging < 1:
            raise ConfigError("trainer: warm_up and averaging must be at least 0 and below 1")
