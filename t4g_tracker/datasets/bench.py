"""``t4g bench``: accuracy, time and memory of trackers on annotated clips, as tables.

What a tracker is, is the caller's to say: a function from a clip and its query points to
tracks. So this module measures without knowing how the tracks come about.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from t4g_tracker.command_line import RunRequest, add_common_arguments
from t4g_tracker.datasets.frames_and_tracks import AnnotatedClip, clip_names, load_clip
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.metrics import EVALUATION_SIZE, QueryMode, Scores, sample_queries, score
from t4g_tracker.outputs import atomic_write, prepare_output_folder

COLUMNS = ("AJ", "delta_avg", "OA", "<1px")


@dataclass(frozen=True)
class BenchRequest(RunRequest):
    """What the user asked ``t4g bench`` for."""

    data: Path
    clips: list[str] | None
    mode: QueryMode
    configs: list[Path]
    out: Path


@dataclass(frozen=True)
class Outcome:
    """Tracks that one method gave for a clip, and what they took."""

    method: str
    tracks: Tracks
    seconds: float
    peak_memory_mb: float


TrackClip = Callable[[AnnotatedClip, QueryPoints], Iterator[Outcome]]


@dataclass(frozen=True)
class _Line:
    clip: str
    method: str
    scores: Scores
    seconds: float
    peak_memory_mb: float

    def cells(self) -> list[str]:
        s = self.scores
        values = (s.average_jaccard, s.delta_avg, s.occlusion_accuracy, s.within_1px)
        return [
            self.clip,
            self.method,
            *(f"{value:.1f}" for value in values),
            f"{self.seconds:.0f}",
            f"{self.peak_memory_mb:.0f}",
        ]


HEADER = ["clip", "method", *COLUMNS, "seconds", "peak MB"]


def parse_bench(argv: list[str] | None) -> BenchRequest:
    """Read the arguments of ``t4g bench``; exits with code 2 on wrong usage."""
    parser = argparse.ArgumentParser(
        prog="t4g bench",
        description="Measure AJ, delta_avg, OA and the share within 1 px (TAP-Vid's definitions at 256x256) "
        "of chained flow, frozen features and adapted features on annotated clips.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with JPEGImages/480p/<clip>/ and tracks/<clip>.npz"
    )
    parser.add_argument("--clips", nargs="+", help="only these clips")
    parser.add_argument("--mode", choices=("strided", "first"), default="strided", help="TAP-Vid query mode")
    parser.add_argument(
        "--configs", type=Path, nargs="+", default=[], help="several YAML files, each measured in turn"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"), help="folder for the tables")
    add_common_arguments(parser)
    return BenchRequest(**vars(parser.parse_args(argv)))


def run_bench(request: BenchRequest, track_clip: TrackClip) -> list[str]:
    """Measure every method on every clip.

    A row is appended to ``results.csv`` as soon as it is known; ``results.md`` and
    ``results.json`` are written at the end.

    Args:
        request: Data set, clips and query mode.
        track_clip: Yields the outcome of each method for one clip and its query points.

    Returns:
        The means, a line for each method, and where the tables are; the rows before them
        have been printed as they came.

    Raises:
        DatasetError, OutputError, VideoError: Before any clip is tracked where that can be told.
    """
    names = clip_names(request.data, request.clips)
    for name in names:  # told now, not after hours
        load_clip(request.data, name)
    folder = prepare_output_folder(request.out)
    lines: list[_Line] = []
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        print(_row(HEADER), flush=True)
        for name in names:
            clip = load_clip(request.data, name)
            queries, which = sample_queries(clip.xy, clip.visibility, request.mode)
            for outcome in track_clip(clip, queries):
                scores = score(
                    outcome.tracks,
                    clip.xy[which],
                    clip.visibility[which],
                    queries.frame,
                    clip.video.size,
                    request.mode,
                )
                lines.append(_Line(name, outcome.method, scores, outcome.seconds, outcome.peak_memory_mb))
                writer.writerow(lines[-1].cells())
                file.flush()
                print(_row(lines[-1].cells()), flush=True)
    lines += _means(lines)
    _write_tables(folder, request, lines)
    means = [_row(line.cells()) for line in lines if line.clip == "mean"]
    return [*means, f"{request.mode} queries, scaled to 256x256; tables in {folder}"]


def _means(lines: list[_Line]) -> list[_Line]:
    """The mean over clips of each method, in the order the methods first appear."""
    methods = list(dict.fromkeys(line.method for line in lines))
    means = []
    for method in methods:
        rows = [line for line in lines if line.method == method]
        means.append(
            _Line(
                "mean",
                method,
                Scores.mean([row.scores for row in rows]),
                sum(row.seconds for row in rows) / len(rows),
                max(row.peak_memory_mb for row in rows),
            )
        )
    return means


def _row(cells: list[str]) -> str:
    return f"{cells[0]:<22}{cells[1]:<24}" + "".join(f"{cell:>10}" for cell in cells[2:])


def _write_tables(folder: Path, request: BenchRequest, lines: list[_Line]) -> None:
    rows = [HEADER, ["---"] * len(HEADER), *(line.cells() for line in lines)]
    with atomic_write(folder / "results.md") as passing:
        passing.write_text("".join(f"| {' | '.join(row)} |\n" for row in rows), encoding="utf-8")
    table = [
        {
            "clip": line.clip,
            "method": line.method,
            **asdict(line.scores),
            "seconds": line.seconds,
            "peak_memory_mb": line.peak_memory_mb,
        }
        for line in lines
    ]
    facts = {
        "data": str(request.data),
        "mode": request.mode,
        "evaluation_size": EVALUATION_SIZE,
        "seed": request.seed,
    }
    with atomic_write(folder / "results.json") as passing:
        passing.write_text(json.dumps({**facts, "rows": table}, indent=2), encoding="utf-8")
