"""Finding results in folders: tracking runs, comparisons of features, generated videos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t4g_tracker.errors import OutputError, VideoError, one_line, warn
from t4g_tracker.inputs.input_files import decoded, open_input
from t4g_tracker.outputs.generated import VIDEO, GeneratedFolder, find_generated, read_generated

MOST_BYTES = 50_000_000
RUN, COMPARISON, METRICS = "run.json", "compare.json", "video-metrics.json"
BATCH, REPORT = "summary.json", "report.html"  # of t4g bench, which keeps no tracks and has a page of its own


@dataclass(frozen=True)
class ResultFolder:
    """A folder that a finished run has written."""

    path: Path
    record: dict[str, Any]  # its run.json or compare.json

    @property
    def name(self) -> str:
        """The clip and the points, as the folders are called."""
        return f"{self.path.resolve().parent.name} / {self.path.resolve().name}"

    def has(self, file: str) -> bool:
        return (self.path / file).is_file()


@dataclass(frozen=True)
class Found:
    """What folders hold."""

    runs: list[ResultFolder]
    comparisons: list[ResultFolder]
    generated: list[GeneratedFolder]
    # of t4g video-metrics: the values of each figure for each pair of frames, by the digest of the video
    measured: dict[str, dict[str, list[float]]]


def find_results(folders: Sequence[Path]) -> Found:
    """Look for results in folders, and in those below them; what a run has not finished is left out.

    So are generated videos without their input image, and results of t4g bench; a warning says so.

    Raises:
        OutputError: If a folder is missing, or none holds results.
    """
    runs: dict[Path, ResultFolder] = {}
    comparisons: dict[Path, ResultFolder] = {}
    generated: dict[Path, GeneratedFolder] = {}
    measured: dict[str, dict[str, list[float]]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise OutputError(f"{folder}: no such folder; give folders of results, such as outputs")
        for name, found in ((RUN, runs), (COMPARISON, comparisons)):
            for file in sorted(folder.rglob(name)):
                result = _read(file)
                if result is not None:
                    found[file.parent.resolve()] = result
        for file in sorted(folder.rglob(METRICS)):
            for digest, pairs in _read_metrics(file):
                kept = measured.setdefault(digest, {})
                for figure, values in pairs.items():  # of two measurements, that of more frames
                    kept[figure] = max(kept.get(figure, []), values, key=len)
        for root in find_generated(folder):
            try:
                generated[root.resolve()] = read_generated(root)
            except VideoError as error:
                warn(f"{root}: is left out, {error}")
    benches = {file.parent for folder in folders for file in folder.rglob(BATCH) if _is_bench(file)}
    for folder in sorted(benches):
        warn(f"{folder}: is left out, t4g bench keeps no tracks and has its own page; open {folder / REPORT}")
    if not (runs or comparisons or generated):
        given = ", ".join(map(str, folders))
        raise OutputError(
            f"{given}: no results there; give folders with {RUN}, {COMPARISON} or {VIDEO} below them"
        )
    return Found(list(runs.values()), list(comparisons.values()), list(generated.values()), measured)


def _read(file: Path) -> ResultFolder | None:
    """Read the record of a run; None, with a warning, if the run has not finished or it is no record."""
    record = _read_json(file)
    if record is None:
        return None
    if not isinstance(record, dict) or not record.get("finished"):
        warn(f"{file}: is left out, its run has not finished; run its command again")
        return None
    return ResultFolder(file.parent, record)


def _is_bench(file: Path) -> bool:
    record = _read_json(file, quiet=True)  # other programs write files of this name too
    return isinstance(record, dict) and record.get("what") == "bench"


def _read_metrics(file: Path) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Yield digest and figures of each video of t4g video-metrics; what is none of that is left out."""
    record = _read_json(file)
    videos = record.get("videos") if isinstance(record, dict) else None
    for video in videos if isinstance(videos, list) else []:
        digest, pairs = (video.get(name) if isinstance(video, dict) else None for name in ("digest", "pairs"))
        if isinstance(digest, str) and isinstance(pairs, dict):
            yield digest, {name: values for name, values in pairs.items() if _are_numbers(values)}


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int | float) for value in values)


def _read_json(file: Path, quiet: bool = False) -> Any:
    """Read a record; None, with a warning unless ``quiet``, if that fails."""
    try:
        with open_input(file, MOST_BYTES, OutputError, "the record of a run") as opened:
            return json.loads(decoded(opened.read(), OutputError))
    except (OutputError, ValueError, RecursionError) as error:
        if not quiet:
            warn(f"{file}: is left out, it cannot be read ({one_line(error)}); run its command again")
        return None
