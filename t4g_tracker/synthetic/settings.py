"""Settings of the project's own benchmark, apart from its code so that ``--help`` is fast."""

from __future__ import annotations

from dataclasses import dataclass

from t4g_tracker.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ValConfig:
    """Size of the benchmark. A clip does not depend on the number of clips."""

    clips: int = 8
    frames: int = 32  # of each clip
    size: tuple[int, int] = (480, 854)  # (H, W) pixels
    points: int = 64  # of each clip

    def __post_init__(self) -> None:
        for name, least in (("clips", 1), ("frames", 2), ("points", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if min(self.size) < 32:
            raise ConfigError(f"size must be at least 32x32, got {self.size[0]}x{self.size[1]}")
