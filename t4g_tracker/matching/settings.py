"""Settings of matching, which the losses of the adaptation and tracking share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from t4g_tracker.limits import Limits, check_limits


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """How a cost map becomes a position, in the losses as in tracking, so that one trains the other."""

    temperature: float = 0.05  # of the softmax over cost maps; smaller is sharper
    window_radius_px: float = 16.0  # reach of the soft-argmax around the best cell, working pixels

    LIMITS: ClassVar[Limits] = {"temperature": (0.001, 10), "window_radius_px": (0.5, 128)}

    def __post_init__(self) -> None:
        check_limits(self, "matching")
