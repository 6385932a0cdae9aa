"""The figures of a training, step by step, in a file with one JSON object per line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from t4g_tracker.storage.files import atomic_write


@dataclass(frozen=True)
class History:
    """A file that grows by a line for some of the steps."""

    path: Path

    def forget_after(self, step: int) -> None:
        """Drop the lines of later steps, which a training that resumes from its checkpoint repeats."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        valid = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        if valid != lines:
            with atomic_write(self.path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in valid), encoding="utf-8")

    def add(self, step: int, seconds: float, rate: float, figures: dict[str, float]) -> None:
        """Append a line: step, seconds of training so far, learning rate, and losses or measures by name."""
        row = {"step": step, "seconds": round(seconds, 1), "rate": rate, **figures}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
