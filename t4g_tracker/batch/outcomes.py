"""What measuring one clip gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from t4g_tracker.datasets.protocols import WorstTrack
from t4g_tracker.results import Result


@dataclass(frozen=True)
class ClipOutcome:
    """All methods on one clip; or why it failed."""

    clip: str
    methods: tuple[Result, ...] = ()  # without their tracks
    worst: tuple[WorstTrack, ...] = ()  # of the last method
    frames: int = 0  # of the clip as it was tracked
    overlay: str = ""  # path from the output folder
    error: str = ""  # one line; empty when all went well
    trace: str = ""  # where an unexpected error came from

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "methods": [method.as_json() for method in self.methods]}

    @staticmethod
    def from_json(record: dict[str, Any]) -> ClipOutcome:
        """The inverse of ``as_json``; raises KeyError or TypeError where it is none."""
        methods = tuple(Result.from_json(method) for method in record["methods"])
        worst = tuple(WorstTrack(**track) for track in record["worst"])
        return ClipOutcome(**{**record, "methods": methods, "worst": worst})
