"""Published scores for comparison, and what must agree for them to compare."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Scores of one tracker, in percent, from its paper."""

    tracker: str
    dataset: str
    mode: str  # query mode; empty if there is only one
    resolution: str  # of the tracker's input
    measures: dict[str, float]
    source: str


def _davis(tracker: str, mode: str, resolution: str, source: str, **measures: float) -> Published:
    return Published(tracker, "tapvid-davis", mode, resolution, measures, source)


def _badja(tracker: str, segment: float, near: float) -> Published:
    source = "arXiv:2403.14548"
    return Published(tracker, "badja", "", "480p", {"segment": segment, "3px": near}, source)


# The size of the data sets, to see whether all of it was measured.
CLIPS = {"tapvid-davis": 30}
LONGEST_FRAMES = {"tapvid-davis": 104}

PUBLISHED = (
    _davis("DINO-Tracker", "strided", "480p", "arXiv:2403.14548", AJ=65.3, delta_avg=80.7, OA=88.5),
    _davis("OmniMotion", "strided", "unknown", "arXiv:2403.14548", AJ=51.7, delta_avg=67.5, OA=85.3),
    _davis("CaDeX++", "strided", "unknown", "arXiv:2407.06531", AJ=59.4, delta_avg=77.4, OA=85.9),
    _davis("CoTracker3", "first", "unknown", "arXiv:2410.11831", AJ=63.8, delta_avg=76.3, OA=90.2),
    _davis("Track-On-R", "first", "unknown", "arXiv:2603.12217", AJ=68.1, delta_avg=80.3),
    _davis("TAPNext++", "strided", "unknown", "arXiv:2604.10582", AJ=71.2),
    _badja("DINO-Tracker", 72.4, 14.3),
    _badja("TAPIR", 68.7, 10.5),
    _badja("CoTracker", 64.0, 11.2),
    _badja("OmniMotion", 45.2, 6.9),
)


def published_for(dataset: str, mode: str) -> list[Published]:
    """List the scores on a data set, those with the same query mode first."""
    rows = [row for row in PUBLISHED if row.dataset == dataset]
    return sorted(rows, key=lambda row: row.mode not in ("", mode))
