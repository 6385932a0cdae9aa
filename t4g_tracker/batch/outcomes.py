"""What measuring one clip comes to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from t4g_tracker.datasets.protocols import WorstTrack


@dataclass(frozen=True)
class MethodScores:
    """One method on one clip."""

    method: str
    measures: dict[str, float]  # percent by name; empty where the truth is not known
    seconds: float
    peak_memory_mb: float


@dataclass(frozen=True)
class ClipOutcome:
    """All methods on one clip; or why it failed."""

    clip: str
    methods: tuple[MethodScores, ...] = ()
    worst: tuple[WorstTrack, ...] = ()  # of the last method
    frames: int = 0  # of the clip as it was tracked
    overlay: str = ""  # path from the output folder
    error: str = ""  # one line; empty when all went well
    trace: str = ""  # where an unexpected error came from

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(kept: dict[str, Any]) -> ClipOutcome:
        """The inverse of ``as_json``; raises KeyError or TypeError where it is not one."""
        methods = tuple(MethodScores(**scores) for scores in kept["methods"])
        worst = tuple(WorstTrack(**track) for track in kept["worst"])
        return ClipOutcome(**{**kept, "methods": methods, "worst": worst})
