"""The diagnosis of all clips as tables, with means over clips, and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from t4g_tracker.diagnosis.clip import MATCH, OWN_FLOW, SINCE_QUERY, SINCE_REAPPEARANCE, TRUE_FLOW, Diagnosis
from t4g_tracker.diagnosis.diagram import write_diagram
from t4g_tracker.diagnosis.figures import NEAR_PX, SPAN_NAMES, Figures
from t4g_tracker.diagnosis.reliability import BINS, Reliability
from t4g_tracker.metrics import THRESHOLDS_PX
from t4g_tracker.storage.files import write_json, write_text
from t4g_tracker.tables import Table, rounded

FILES = ("diagnosis.md", "diagnosis.json", "reliability.png")
FOLDER = "diagnosis"  # of the pictures
MEAN = "mean"

_NEAR = tuple(f"<{limit:.0f}px" for limit in THRESHOLDS_PX)
_CANDIDATES = ("any", MATCH, OWN_FLOW, TRUE_FLOW)


def mean_diagnosis(diagnoses: Sequence[Diagnosis]) -> Diagnosis:
    """Average every figure over clips, all of equal weight; a clip without it is left out of its mean."""
    return Diagnosis(
        _means([diagnosis.methods for diagnosis in diagnoses]),
        _means([diagnosis.flow for diagnosis in diagnoses]),
    )


def _means(clips: Sequence[Mapping[str, Figures]]) -> dict[str, Figures]:
    result: dict[str, Figures] = {}
    for row in dict.fromkeys(name for clip in clips for name in clip):
        own = [clip[row] for clip in clips if row in clip]
        names = dict.fromkeys(name for figures in own for name in figures)
        result[row] = {name: _mean([figures[name] for figures in own if name in figures]) for name in names}
    return result


def _mean(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).nanmean())


def diagnosis_tables(diagnoses: Mapping[str, Diagnosis]) -> dict[str, Table]:
    """Make the tables of diagnoses by clip, each by its title; a row of means is the last for each method."""
    rows = dict(diagnoses)
    if len(diagnoses) > 1:
        rows[f"{MEAN} of {len(diagnoses)}"] = mean_diagnosis(list(diagnoses.values()))
    tables = {
        "Visible points, percent; of the lost ones, those with a right candidate; wrong visibility": Table(
            ["clip", "method", "points", *_NEAR, "lost", *_CANDIDATES, "misses", "false alarms"],
            [
                [clip, method, rounded(figures.get("points"), 0), *_cells(figures)]
                for clip, diagnosis in rows.items()
                for method, figures in diagnosis.methods.items()
            ],
            words=2,
        ),
        "Error by frames since the query, median / mean px": _by_time(rows, SINCE_QUERY),
        "Error by frames since the last reappearance, median / mean px": _by_time(rows, SINCE_REAPPEARANCE),
    }
    flow = "median px / percent within 1 px / percent falsely certain"
    for title, start in (("over each gap", "gap "), ("straight from the query frame", "from query, ")):
        table = _of_flow(rows, start)
        if len(table.header) > 1:
            tables[f"Flow from true positions {title}, {flow}"] = table
    return tables | _of_confidence(diagnoses)


def _of_confidence(diagnoses: Mapping[str, Diagnosis]) -> dict[str, Table]:
    """Make the tables of confidence; the last rows are of all clips together, each point counted once."""
    clips = {clip: diagnosis.confidence for clip, diagnosis in diagnoses.items()}
    if len(clips) > 1:
        clips[f"all {len(clips)} together"] = joined_confidence(list(diagnoses.values()))
    rows = [
        ([clip, method, kind], reliability)
        for clip, methods in clips.items()
        for method, kinds in methods.items()
        for kind, reliability in kinds.items()
    ]
    if not rows:
        return {}
    words = ["clip", "method", "counted"]
    edges = [round(100 * place / BINS) for place in range(BINS + 1)]
    spans = [f"{low}-{high}" for low, high in pairwise(edges)]
    found = f"found: visible and within {NEAR_PX:.0f} px"
    figures = ["points", "confidence", "found", "calibration error", "slope", "intercept"]
    return {
        f"Confidence, percent; {found}": Table(
            [*words, *figures], [[*names, *_confidence_cells(part)] for names, part in rows], words=3
        ),
        f"Percent found / points, by confidence in percent; {found}": Table(
            [*words, *spans], [[*names, *_bin_cells(part)] for names, part in rows], words=3
        ),
    }


def joined_confidence(diagnoses: Sequence[Diagnosis]) -> dict[str, dict[str, Reliability]]:
    """Join the reliabilities of clips, by method and by what counts."""
    parts: dict[str, dict[str, list[Reliability]]] = {}
    for diagnosis in diagnoses:
        for method, kinds in diagnosis.confidence.items():
            for kind, reliability in kinds.items():
                parts.setdefault(method, {}).setdefault(kind, []).append(reliability)
    return {
        method: {kind: Reliability.joined(of_kind) for kind, of_kind in kinds.items()}
        for method, kinds in parts.items()
    }


def _confidence_cells(part: Reliability) -> list[str]:
    figures = part.figures()
    shares = [rounded(figures[name]) for name in ("confidence", "found", "calibration error")]
    return [
        rounded(figures["points"], 0),
        *shares,
        *(rounded(figures[name], 2) for name in ("slope", "intercept")),
    ]


def _bin_cells(part: Reliability) -> list[str]:
    wide = part.bins()
    return [
        f"{100 * found / points:.1f} / {points:.0f}" if points else "-"
        for points, found in zip(wide.points, wide.found, strict=True)
    ]


def _cells(figures: Figures) -> list[str]:
    names = (*_NEAR, "lost", *(f"lost, {kind}" for kind in _CANDIDATES), "misses", "false alarms")
    return [rounded(figures.get(name)) for name in names]


def _by_time(rows: Mapping[str, Diagnosis], name: str) -> Table:
    lines = [
        [clip, method, *(_pair(figures, f"{name} {span}") for span in SPAN_NAMES)]
        for clip, diagnosis in rows.items()
        for method, figures in diagnosis.methods.items()
    ]
    return Table(["clip", "method", *SPAN_NAMES], lines, words=2)


def _pair(figures: Figures, name: str) -> str:
    median, mean = (rounded(figures.get(f"{name}, {kind}"), 2) for kind in ("median", "mean"))
    return "-" if median == "-" else f"{median} / {mean}"


def _of_flow(rows: Mapping[str, Diagnosis], start: str) -> Table:
    names = dict.fromkeys(name for row in rows.values() for name in row.flow if name.startswith(start))
    lines = [[clip, *(_flow_cell(row.flow.get(name)) for name in names)] for clip, row in rows.items()]
    return Table(["clip", *names], lines)


def _flow_cell(figures: Figures | None) -> str:
    if figures is None or not figures.get("pairs"):
        return "-"
    rest = " / ".join(rounded(figures.get(name)) for name in ("<1px", "falsely certain"))
    return f"{rounded(figures.get('median'), 2)} / {rest}"


def write_diagnosis(folder: Path, diagnoses: Mapping[str, Diagnosis], title: str) -> list[str]:
    """Write diagnosis.md, diagnosis.json and reliability.png, and return the tables' lines for a terminal.

    Args:
        folder: The output folder.
        diagnoses: By the name of the clip.
        title: Data set, protocol and settings.

    Raises:
        OutputError: If they cannot be written.
    """
    tables = diagnosis_tables(diagnoses)
    paragraphs = [f"{title}\n"]
    for heading, table in tables.items():
        paragraphs += [f"## {heading}\n", table.markdown()]
    confidences = [diagnosis.confidence for diagnosis in diagnoses.values() if diagnosis.confidence]
    if confidences:
        write_diagram(folder / FILES[2], confidences)
        paragraphs.append(f"![reliability diagram]({FILES[2]})\n")
    pictures = {clip: diagnosis.picture for clip, diagnosis in diagnoses.items() if diagnosis.picture}
    if pictures:
        paragraphs.append("## Worst tracks\n")
        paragraphs += [f"![{clip}](<{picture}>)\n" for clip, picture in pictures.items()]
    write_text(folder / FILES[0], "\n".join(paragraphs))
    record: dict[str, Any] = {
        "title": title,
        "clips": {clip: asdict(diagnosis) for clip, diagnosis in diagnoses.items()},
        MEAN: asdict(mean_diagnosis(list(diagnoses.values()))),
        "confidence": {
            method: {kind: reliability.figures() for kind, reliability in kinds.items()}
            for method, kinds in joined_confidence(list(diagnoses.values())).items()
        },
    }
    write_json(folder / FILES[1], record)
    lines: list[str] = []
    for heading, table in tables.items():
        lines += ["", heading, *table.console()]
    return lines
