"""``t4g compare-features``: what is asked for, and the table and pictures that answer it.

How the tracks come about is the caller's to say, as in ``t4g bench``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.files import atomic_write, write_run_json, write_tracks_npz
from t4g_tracker.metrics import EVALUATION_SIZE, Scores, score
from t4g_tracker.results import OutputsConfig
from t4g_tracker.visualize.compare import Shown, compare_picture, compare_video, shown_frames
from t4g_tracker.visualize.overlay import write_picture, write_video

MEASURES = ("AJ", "delta_avg", "OA", "<1px")


@dataclass(frozen=True)
class Compared:
    """Tracks with the frozen features of one extractor, and what they took."""

    name: str
    tracks: Tracks
    features_seconds: float | None  # None: kept from an earlier run
    tracking_seconds: float
    scores: Scores | None = None  # when the truth is known

    @property
    def measures(self) -> tuple[float, ...]:
        """The scores in the order of ``MEASURES``; empty when the truth is not known."""
        s = self.scores
        return (s.average_jaccard, s.delta_avg, s.occlusion_accuracy, s.within_1px) if s else ()


def score_compared(compared: Compared, truth: Tracks, queries: QueryPoints, video: Video) -> Compared:
    """Compare with the truth, over all frames but each point's query frame."""
    scores = score(compared.tracks, truth.xy, truth.visibility, queries.frame, video.size, "strided")
    return replace(compared, scores=scores)


def write_comparison(
    folder: Path,
    video: Video,
    queries: QueryPoints,
    rows: list[Compared],
    truth: Tracks | None,
    config: OutputsConfig,
    facts: dict[str, Any],
    progress: Callable[[int, int], None],
) -> list[str]:
    """Write every extractor's tracks, the picture, the video and the tables.

    Args:
        folder: Where to; must exist.
        video: T frames.
        queries: N query points.
        rows: One for each extractor, in the order of reading.
        truth: True tracks of the same points, or None.
        config: Columns of the picture and length of the trails.
        facts: What else compare.json is to say.
        progress: Called with (files written, files in all).

    Returns:
        Names of the files.

    Raises:
        OutputError: If a file cannot be written.
    """
    shown = [
        Shown(row.name, row.tracks, captions) for row, captions in zip(rows, _captions(rows), strict=True)
    ]
    frames = shown_frames(video, queries, config.progress_columns)

    def tracks(row: Compared) -> Callable[[], None]:
        path = folder / _tracks_file(row)
        return lambda: write_tracks_npz(path, row.tracks, queries, video.size, video.fps)

    def picture() -> None:
        write_picture(folder / "compare.png", compare_picture(shown, video, queries, frames, truth))

    def moving() -> None:
        played = compare_video(shown, video, queries, truth, config.trail_frames)
        write_video(folder / "compare.mp4", played, video.fps)

    def markdown() -> None:
        with atomic_write(folder / "compare.md") as passing:
            lines = [f"| {' | '.join(cells)} |\n" for cells in _with_rule(table(rows))]
            passing.write_text("".join(lines), encoding="utf-8")

    def record() -> None:
        write_run_json(folder / "compare.json", {**facts, **_record(rows)})

    writers: dict[str, Callable[[], None]] = {_tracks_file(row): tracks(row) for row in rows}
    writers |= {"compare.png": picture, "compare.mp4": moving, "compare.md": markdown, "compare.json": record}
    for index, write in enumerate(writers.values()):
        write()
        progress(index + 1, len(writers))
    return list(writers)


def _tracks_file(row: Compared) -> str:
    return f"{row.name}.tracks.npz"


def table(rows: list[Compared]) -> list[list[str]]:
    """A heading and a line for each extractor: scores where known, and seconds."""
    measures = list(MEASURES) if any(row.scores for row in rows) else []
    lines = [["features", *measures, "features s", "tracking s"]]
    for row in rows:
        extracted = "kept" if row.features_seconds is None else f"{row.features_seconds:.1f}"
        scores = [f"{value:.1f}" for value in row.measures]
        lines.append([row.name, *scores, extracted, f"{row.tracking_seconds:.1f}"])
    return lines


def table_lines(rows: list[Compared]) -> list[str]:
    """The table, aligned for a terminal."""
    return [f"{cells[0]:<16}" + "".join(f"{cell:>12}" for cell in cells[1:]) for cells in table(rows)]


def _with_rule(lines: list[list[str]]) -> list[list[str]]:
    return [lines[0], ["---"] * len(lines[0]), *lines[1:]]


def _captions(rows: list[Compared]) -> list[tuple[tuple[str, bool], ...]]:
    """Scores as short texts, the best of each measure marked where there is something to choose."""
    best = [max(column) for column in zip(*(row.measures for row in rows), strict=True)]
    return [
        tuple(
            (f"{measure} {value:.1f}", len(rows) > 1 and value == best[place])
            for place, (measure, value) in enumerate(zip(MEASURES, row.measures, strict=False))
        )
        for row in rows
    ]


def _record(rows: list[Compared]) -> dict[str, Any]:
    """The table as compare.json has it."""
    return {
        "evaluation_size": EVALUATION_SIZE,
        "mode": "strided",
        "rows": [
            {
                "features": row.name,
                **(asdict(row.scores) if row.scores else {}),
                "features_seconds": row.features_seconds,
                "features_kept": row.features_seconds is None,
                "tracking_seconds": row.tracking_seconds,
            }
            for row in rows
        ],
    }
