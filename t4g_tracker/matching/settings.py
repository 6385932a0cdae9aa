"""Settings of matching, which the losses of the adaptation and tracking share."""

from __future__ import annotations

from dataclasses import dataclass

from t4g_tracker.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """How a cost map becomes a position, in the losses as in tracking, so that one trains the other."""

    temperature: float = 0.05  # of the softmax over cost maps; smaller is sharper
    window_radius_px: float = 16.0  # reach of the soft-argmax around the best cell, working pixels

    def __post_init__(self) -> None:
        for name in ("temperature", "window_radius_px"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"matching.{name} must be positive, got {getattr(self, name)}")
