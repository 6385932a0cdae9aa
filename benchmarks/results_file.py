"""Measurements kept as they are made, one a line, so that an interrupted benchmark goes on where it was."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.measuring import Measurement
from t4g_tracker.errors import TrackerError


@dataclass
class ResultsFile:
    """The measurements of one benchmark, by case and by side ("" alone, else the revision)."""

    path: Path
    circumstances: dict[str, Any]  # machine, steps, settings, code: what all measurements must share
    found: dict[tuple[str, str], list[Measurement]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, circumstances: dict[str, Any], fresh: bool) -> ResultsFile:
        """Open a file of measurements, or begin one.

        Raises:
            TrackerError: If it holds measurements under other circumstances, or is damaged.
        """
        results = cls(path, circumstances)
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh or not path.exists():
            path.write_text(json.dumps(circumstances) + "\n", encoding="utf-8")
            return results
        try:
            head, *lines = path.read_text(encoding="utf-8").splitlines() or ["{}"]
            begun_with = json.loads(head)
            rows = [json.loads(line) for line in lines]
        except ValueError as error:
            raise TrackerError(f"{path}: is damaged ({error}); begin anew with --fresh") from error
        other = [name for name in circumstances if begun_with.get(name) != circumstances[name]]
        if other:
            raise TrackerError(
                f"{path}: was begun with another {other[0]}: {begun_with.get(other[0])}, now "
                f"{circumstances[other[0]]}; begin anew with --fresh, or name another --out"
            )
        for row in rows:
            results._hold(row["case"], row["side"], Measurement(**row["measurement"]))
        return results

    def of(self, case: Case, side: str = "") -> list[Measurement]:
        """The measurements of a case that are there."""
        return self.found.get((case.name, side), [])

    def add(self, case: Case, side: str, measurement: Measurement) -> None:
        """Keep a measurement, on the disk at once."""
        row = {"case": case.name, "side": side, "measurement": measurement.facts()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._hold(case.name, side, measurement)

    def _hold(self, case: str, side: str, measurement: Measurement) -> None:
        self.found.setdefault((case, side), []).append(measurement)
