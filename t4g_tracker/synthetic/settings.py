"""Settings of the project's own benchmark, apart from its code so that ``--help`` is fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from t4g_tracker.limits import Limits, check_limits


@dataclass(frozen=True, kw_only=True)
class ValConfig:
    """Size of the benchmark. A clip does not depend on the number of clips."""

    clips: int = 8
    first: int = 0  # number of the first clip; others than the benchmark's own are for fits that it judges
    frames: int = 32  # of each clip
    size: tuple[int, int] = (480, 854)  # (H, W) pixels
    points: int = 64  # of each clip

    LIMITS: ClassVar[Limits] = {
        "clips": (1, 100_000),
        "first": (0, 100_000),
        "frames": (2, 10_000),
        "size": (32, 4096),
        "points": (1, 100_000),
    }

    def __post_init__(self) -> None:
        check_limits(self)
