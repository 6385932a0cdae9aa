"""The outcome of measuring one clip."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from t4g_tracker.datasets.protocols import WorstTrack
from t4g_tracker.diagnosis.clip import Diagnosis
from t4g_tracker.diagnosis.reliability import FINE_BINS, Reliability
from t4g_tracker.results import Result

NO_LARGER = 100 + 1e-6  # any measure in percent
LENGTHS = ("hidden_px",)  # measures in pixels


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
    warnings: tuple[str, ...] = ()  # a line each
    diagnosis: Diagnosis | None = None  # None: not asked for

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "methods": [method.as_json() for method in self.methods]}

    @staticmethod
    def from_json(record: Any, measures: Collection[str]) -> ClipOutcome:
        """Read a record of ``as_json``, checking every value.

        Args:
            record: As parsed from JSON.
            measures: What every method must have been measured by.

        Raises:
            ValueError: If it is not such a record; the message says what is wrong with it.
        """
        fields = {"clip": str, "methods": list, "worst": list, "frames": int, "overlay": str, "error": str}
        if isinstance(record, dict):
            record = {"warnings": [], "diagnosis": None, **record}  # lines of earlier versions have none
        record = _checked(record, {**fields, "trace": str, "warnings": list, "diagnosis": object})
        if not record["methods"] and not record["error"]:
            raise ValueError("it has neither results nor an error")
        if not all(isinstance(line, str) for line in record["warnings"]):
            raise ValueError("a warning is no text")
        return ClipOutcome(
            **{
                **record,
                "methods": tuple(_result(method, measures) for method in record["methods"]),
                "worst": tuple(_worst(track) for track in record["worst"]),
                "warnings": tuple(record["warnings"]),
                "diagnosis": None if record["diagnosis"] is None else _diagnosis(record["diagnosis"]),
            }
        )


def _checked(record: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Check that a record has exactly these fields, of these types."""
    if not isinstance(record, dict):
        raise ValueError("it is not a record")
    for name in sorted(record.keys() ^ kinds.keys()):
        raise ValueError(f"it has no {name}" if name in kinds else f"{name[:40]!r} is unknown")
    for name, kind in kinds.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise ValueError(f"its {name} is of another type")
    return record


def _result(record: Any, measures: Collection[str]) -> Result:
    """Check the results of one method."""
    figures = _checked(record, {"method": str, "measures": dict, "seconds": object, "peak_memory_mb": object})
    if figures["measures"].keys() != set(measures):
        raise ValueError(f"a method is not measured by {', '.join(measures) or 'nothing'}")
    for name, value in figures["measures"].items():
        largest = math.inf if name in LENGTHS else NO_LARGER
        if not _is_number(value) or not (math.isnan(value) or 0 <= value <= largest):
            raise ValueError(f"a measure is not a {'length' if name in LENGTHS else 'percentage'}")
    for name in ("seconds", "peak_memory_mb"):
        if figures[name] is not None and not (_is_number(figures[name]) and 0 <= figures[name] < math.inf):
            raise ValueError(f"its {name} are no number")
    return Result.from_json(figures)


def _worst(record: Any) -> WorstTrack:
    track = _checked(record, {"track": str, "error_px": object})
    if not _is_number(track["error_px"]) or not track["error_px"] >= 0:
        raise ValueError("the error of a track is no distance")
    return WorstTrack(**track)


def _diagnosis(record: Any) -> Diagnosis:
    parts = _checked(record, {"methods": dict, "flow": dict, "picture": str, "confidence": dict})
    for figures in (*parts["methods"].values(), *parts["flow"].values()):
        if not isinstance(figures, dict) or not all(map(_is_number, figures.values())):
            raise ValueError("its diagnosis holds something else than numbers")
    if not all(isinstance(kinds, dict) for kinds in parts["confidence"].values()):
        raise ValueError("its confidence is of another type")
    confidence = {
        method: {kind: _reliability(part) for kind, part in kinds.items()}
        for method, kinds in parts["confidence"].items()
    }
    return Diagnosis(**{**parts, "confidence": confidence})


def _reliability(record: Any) -> Reliability:
    parts = _checked(record, {"points": list, "confidence": list, "found": list})
    for values in parts.values():
        if len(values) != FINE_BINS or not all(_is_number(value) and value >= 0 for value in values):
            raise ValueError("its confidence is not in bins")
    return Reliability(**parts)


def _is_number(value: Any) -> bool:
    """Whether a parsed value is a number that fits into a float."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**53)
