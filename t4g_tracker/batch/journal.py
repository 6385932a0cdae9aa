"""The record of a batch on disk: a line for each clip as it ends, so that no clip is measured twice.

``journal.jsonl`` is only appended to. A last line that a kill cut short is removed, a damaged line is warned
of; their clips are measured again. ``results.csv`` and ``timings.csv`` are rewritten from it after each clip,
clips in the data set's order, so they are the same however often the batch was interrupted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.diagnosis.tables import FILES as DIAGNOSIS
from t4g_tracker.errors import CacheError, OutputError, one_line, warn
from t4g_tracker.identity import refuse
from t4g_tracker.storage.files import locked_folder, write_text
from t4g_tracker.tables import Table, rounded

JOURNAL, IDENTITY = "journal.jsonl", "batch.json"
WARNED_LINES = 3  # named one by one
AT_THE_END = ("summary.json", "results.md", "report.html", *DIAGNOSIS)  # written when all clips are done


@dataclass
class Journal:
    """An output folder, locked for one batch at a time; use it as a context.

    Args:
        folder: The output folder.
        identity: Everything that decides the results, plain JSON values; the folder of another batch is
            refused.
        clips: Names in the data set's order.
        measures: Names of the main columns of ``results.csv``.
        fresh: Start over, and drop earlier results.
        diagnose: A clip without a diagnosis is not done.
        further: Names of the columns after the main ones.
    """

    folder: Path
    identity: dict[str, Any]
    clips: Sequence[str]
    measures: Sequence[str]
    fresh: bool = False
    diagnose: bool = False
    further: Sequence[str] = ()
    outcomes: dict[str, ClipOutcome] = field(default_factory=dict)

    def __enter__(self) -> Journal:
        """Lock the folder and read its earlier results.

        Raises:
            OutputError: If another run is writing to it, or it cannot be written.
            CacheError: If its results are those of another batch, or cannot be read.
        """
        with ExitStack() as held:
            held.enter_context(locked_folder(self.folder, place="--out"))
            try:
                self._resume()
            except OSError as error:
                raise CacheError(
                    f"{error.filename or self.folder}: cannot be read or replaced ({error.strerror}); "
                    "remove it, or choose another --out"
                ) from error
            self._held = held.pop_all()  # until the end of the batch
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    @property
    def columns(self) -> list[str]:
        """The names of all that every method is measured by."""
        return [*self.measures, *self.further]

    def missing(self) -> list[str]:
        """List the clips without a result, or a diagnosis that is needed; failed ones are tried again."""
        return [name for name in self.clips if not self._done(self.outcomes.get(name))]

    def _done(self, outcome: ClipOutcome | None) -> bool:
        if outcome is None or outcome.error:
            return False
        return not self.diagnose or outcome.diagnosis is not None

    def failures(self) -> list[ClipOutcome]:
        return [outcome for outcome in self.ordered() if outcome.error]

    def ordered(self) -> list[ClipOutcome]:
        """List the outcomes of this batch's clips, in the data set's order."""
        return [self.outcomes[name] for name in self.clips if name in self.outcomes]

    def add(self, outcome: ClipOutcome) -> None:
        """Record a clip; it is on disk when this returns.

        Raises:
            OutputError: If it cannot be written.
        """
        self.outcomes[outcome.clip] = outcome
        try:
            with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
                file.write(json.dumps(outcome.as_json()) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self.folder / JOURNAL}: cannot be written ({error.strerror}); free some space or choose "
                "another --out"
            ) from error
        self.write_tables()

    def write_tables(self) -> None:
        """Write results.csv and timings.csv from the outcomes."""
        scores, timings = [], []
        for outcome in self.ordered():
            if outcome.error:
                scores.append([outcome.clip, "", *[""] * len(self.columns), outcome.error])
            for method in outcome.methods:
                values = [rounded(method.measures.get(name), 2, "") for name in self.columns]
                scores.append([outcome.clip, method.name, *values, ""])
                spent = [rounded(method.seconds, 1, ""), rounded(method.peak_memory_mb, 0, "")]
                timings.append([outcome.clip, method.name, *spent])
        results = Table(["clip", "method", *self.columns, "error"], scores)
        write_text(self.folder / "results.csv", results.csv())
        times = Table(["clip", "method", "seconds", "peak MB"], timings)
        write_text(self.folder / "timings.csv", times.csv())

    def _resume(self) -> None:
        """Read earlier results of this batch; refuse those of another."""
        path = self.folder / IDENTITY
        if self.fresh:
            for name in (JOURNAL, *AT_THE_END):
                (self.folder / name).unlink(missing_ok=True)
        elif path.exists():
            refuse(path, _record(path), self.identity, "choose another --out, or --fresh to start over")
        write_text(path, json.dumps(self.identity, indent=2, sort_keys=True))
        self.outcomes.update(_read(self.folder / JOURNAL, self.columns))
        self.write_tables()


def _record(path: Path) -> Any:
    """Read a JSON file; None if it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _read(path: Path, measures: Sequence[str]) -> dict[str, ClipOutcome]:
    """Read the last outcome of each clip; warn of lines that are damaged."""
    outcomes: dict[str, ClipOutcome] = {}
    damaged: list[str] = []
    if not path.exists():
        return outcomes
    if not path.is_file():
        raise CacheError(f"{path}: is not a file; remove it, or choose another --out")
    *lines, rest = path.read_bytes().split(b"\n")
    if rest:
        lines += _mended_end(path, rest)
    for number, line in enumerate(lines, 1):
        try:
            outcome = ClipOutcome.from_json(json.loads(line.decode("utf-8")), measures)
        except (ValueError, RecursionError) as error:
            damaged.append(f"{path}: line {number} is damaged ({one_line(error)})")
            continue
        outcomes[outcome.clip] = outcome
    for place in damaged[:WARNED_LINES]:
        warn(f"{place} and ignored; if its clip has no other line, it is measured again")
    if len(damaged) > WARNED_LINES:
        warn(f"{path}: {len(damaged) - WARNED_LINES} more lines are damaged and ignored")
    return outcomes


def _mended_end(path: Path, rest: bytes) -> list[bytes]:
    """End the last line, or remove it if a kill cut it short, so that the next is not joined to it."""
    try:
        json.loads(rest)
    except (ValueError, RecursionError):
        os.truncate(path, path.stat().st_size - len(rest))
        return []
    with path.open("ab") as file:
        file.write(b"\n")
    return [rest]
