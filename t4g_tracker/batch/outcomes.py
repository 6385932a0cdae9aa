"""The outcome of measuring one clip."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from t4g_tracker.datasets.protocols import WorstTrack
from t4g_tracker.results import Result


@dataclass(frozen=True)
class ClipOutcome:
    """The results of all methods on one clip, or its error."""

    clip: str
    methods: tuple[Result, ...] = ()  # without their tracks
    worst: tuple[WorstTrack, ...] = ()  # of the last method
    frames: int = 0  # number of frames tracked
    overlay: str = ""  # path from the output folder
    error: str = ""  # one line; empty if there was none
    trace: str = ""  # traceback of an unexpected error

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "methods": [method.as_json() for method in self.methods]}

    @staticmethod
    def from_json(record: dict[str, Any]) -> ClipOutcome:
        """Read a record of ``as_json``; raises KeyError or TypeError if it is not one."""
        methods = tuple(Result.from_json(method) for method in record["methods"])
        worst = tuple(WorstTrack(**track) for track in record["worst"])
        return ClipOutcome(**{**record, "methods": methods, "worst": worst})
