"""The outcomes of a batch in one table, with means over clips, written as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.results import Result
from t4g_tracker.storage.files import write_json, write_text
from t4g_tracker.tables import Table, rounded

MEAN = "mean"


@dataclass(frozen=True)
class SummaryRow:
    """One method on a clip, or on "mean": its mean over clips."""

    clip: str
    result: Result
    of: int = 1  # number of clips in the mean


def summary_rows(outcomes: Sequence[ClipOutcome]) -> list[SummaryRow]:
    """List every clip's methods, then the mean of each method over clips, all of equal weight."""
    rows = [SummaryRow(outcome.clip, result) for outcome in outcomes for result in outcome.methods]
    return rows + means(rows)


def means(rows: Sequence[SummaryRow]) -> list[SummaryRow]:
    """Average each method over clips, in the order of first appearance; of memory, take the highest.

    A clip in which a measure is NaN is left out of that measure's mean.
    """
    rows_of_means = []
    for method in dict.fromkeys(row.result.name for row in rows):
        results = [row.result for row in rows if row.result.name == method]
        measures = {
            name: _mean([result.measures[name] for result in results]) for name in results[0].measures
        }
        seconds = [result.seconds for result in results if result.seconds is not None]
        peaks = [result.peak_memory_mb for result in results if result.peak_memory_mb is not None]
        mean = Result(
            method,
            measures=measures,
            seconds=sum(seconds) / len(seconds) if seconds else None,
            peak_memory_mb=max(peaks, default=None),
        )
        rows_of_means.append(SummaryRow(MEAN, mean, len(results)))
    return rows_of_means


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def summary_table(rows: Sequence[SummaryRow], measures: Sequence[str]) -> Table:
    """Make a table of the rows: measures in percent, seconds and peak memory."""
    lines = [
        [
            f"{MEAN} of {row.of}" if row.clip == MEAN else row.clip,
            row.result.name,
            *(rounded(row.result.measures.get(name)) for name in measures),
            rounded(row.result.seconds, 0),
            rounded(row.result.peak_memory_mb, 0),
        ]
        for row in rows
    ]
    return Table(["clip", "method", *measures, "seconds", "peak MB"], lines, words=2)


def write_summary(
    folder: Path, outcomes: Sequence[ClipOutcome], measures: Sequence[str], facts: dict[str, Any]
) -> list[SummaryRow]:
    """Write summary.json and results.md, and return their rows.

    Args:
        folder: The output folder.
        outcomes: Outcomes of all clips, failed ones included.
        measures: Columns of the table.
        facts: Further content of summary.json; "title" names data set and protocol.
    """
    rows = summary_rows(outcomes)
    failed = [outcome for outcome in outcomes if outcome.error]
    paragraphs = [f"{facts['title']}\n"]
    if rows:
        paragraphs.append(summary_table(rows, measures).markdown())
    if failed:
        paragraphs.append("".join(f"- failed: {outcome.clip}: {outcome.error}\n" for outcome in failed))
    warned = [(outcome.clip, line) for outcome in outcomes for line in outcome.warnings]
    if warned:
        paragraphs.append("".join(f"- warning: {clip}: {line}\n" for clip, line in warned))
    write_text(folder / "results.md", "\n".join(paragraphs))
    record = {
        **facts,
        "failures": [{"clip": o.clip, "error": o.error, "trace": o.trace} for o in failed],
        "warnings": [{"clip": clip, "warning": line} for clip, line in warned],
        "rows": [{"clip": row.clip, "of": row.of, **row.result.as_json()} for row in rows],
    }
    write_json(folder / "summary.json", record)
    return rows
