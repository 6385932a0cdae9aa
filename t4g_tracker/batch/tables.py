"""Outcomes of a batch as tables: on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t4g_tracker.batch.outcomes import ClipOutcome, MethodScores
from t4g_tracker.files import atomic_write

MEAN = "mean"


@dataclass(frozen=True)
class TableRow:
    """One line of a table; the clip of a mean is "mean"."""

    clip: str
    scores: MethodScores
    of: int = 1  # clips that it is the mean of


def table_rows(outcomes: Sequence[ClipOutcome]) -> list[TableRow]:
    """Every clip's lines, then the mean over clips of each method, each clip counting once."""
    rows = [TableRow(outcome.clip, scores) for outcome in outcomes for scores in outcome.methods]
    return rows + means(rows)


def means(rows: Sequence[TableRow]) -> list[TableRow]:
    """The mean of each method, methods in the order in which they first appear.

    A clip in which a measure counts nothing (NaN) is left out of that measure's mean.
    """
    result = []
    for method in dict.fromkeys(row.scores.method for row in rows):
        lines = [row.scores for row in rows if row.scores.method == method]
        measures = {name: _mean([line.measures[name] for line in lines]) for name in lines[0].measures}
        seconds = sum(line.seconds for line in lines) / len(lines)
        peak = max(line.peak_memory_mb for line in lines)
        result.append(TableRow(MEAN, MethodScores(method, measures, seconds, peak), len(lines)))
    return result


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def header(measures: Sequence[str]) -> list[str]:
    return ["clip", "method", *measures, "seconds", "peak MB"]


def cells(row: TableRow, measures: Sequence[str]) -> list[str]:
    """A row as texts, in the order of ``header``."""
    values = [said(row.scores.measures.get(name, math.nan)) for name in measures]
    return [
        f"{MEAN} of {row.of}" if row.clip == MEAN else row.clip,
        row.scores.method,
        *values,
        f"{row.scores.seconds:.0f}",
        f"{row.scores.peak_memory_mb:.0f}",
    ]


def said(value: float) -> str:
    """A measure in percent, or a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.1f}"


def terminal_lines(rows: Sequence[TableRow], measures: Sequence[str]) -> list[str]:
    """The table for a terminal, columns aligned; nothing where there are no rows."""
    if not rows:
        return []
    lines = [header(measures), *(cells(row, measures) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def write_summary(
    folder: Path, outcomes: Sequence[ClipOutcome], measures: Sequence[str], facts: dict[str, Any]
) -> list[TableRow]:
    """Write summary.json and results.md, and return their rows.

    Args:
        folder: Where to.
        outcomes: Of every clip, failed ones included.
        measures: Columns.
        facts: What else summary.json is to say; "title" names data set and protocol.
    """
    rows = table_rows(outcomes)
    lines = [header(measures), ["---"] * (len(measures) + 4), *(cells(row, measures) for row in rows)]
    failed = [outcome for outcome in outcomes if outcome.error]
    paragraphs = [f"{facts['title']}\n"]
    if rows:
        paragraphs.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    if failed:
        paragraphs.append("".join(f"- failed: {outcome.clip}: {outcome.error}\n" for outcome in failed))
    with atomic_write(folder / "results.md") as passing:
        passing.write_text("\n".join(paragraphs), encoding="utf-8")
    record = {
        **facts,
        "failures": [{"clip": o.clip, "error": o.error, "trace": o.trace} for o in failed],
        "rows": [{"clip": row.clip, "of": row.of, **_plain(row.scores)} for row in rows],
    }
    with atomic_write(folder / "summary.json") as passing:
        passing.write_text(json.dumps(record, indent=2), encoding="utf-8")
    return rows


def _plain(scores: MethodScores) -> dict[str, Any]:
    """Scores for JSON, which knows no NaN."""
    plain = asdict(scores)
    measures = {name: None if math.isnan(value) else value for name, value in scores.measures.items()}
    return {**plain, "measures": measures}
