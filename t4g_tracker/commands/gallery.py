"""``t4g gallery``: a page of results, from the folders that runs have written."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from t4g_tracker.commands.arguments import add_cache, path_text
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser, whole
from t4g_tracker.commands.printing import say

if TYPE_CHECKING:
    from t4g_tracker.gallery.folders import Found, ResultFolder
    from t4g_tracker.gallery.site import Shown
    from t4g_tracker.gallery.worst_videos import ModelFailures


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="t4g gallery",
        description="Write a page of results: progress and overlays of tracking runs, comparisons of "
        "features, generated videos beside their inputs, and failures by class, found by rule. It needs no "
        "server.",
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=path_text,
        help="where results are, at any depth: of t4g track, t4g compare-features, t4g video-metrics, or "
        "generated videos",
    )
    parser.add_argument("--out", type=path_text, default=Path("site"), help="folder (default %(default)s)")
    parser.add_argument("--title", default="Results", help="of the page (default %(default)s)")
    parser.add_argument(
        "--failures",
        type=whole(0, 100),
        default=3,
        metavar="N",
        help="how many to show of each class, of generated videos for each model (default %(default)s)",
    )
    add_cache(parser)
    return parser.parse(argv)


def _main(argv: list[str] | None) -> int:
    request = _parse(argv)

    from t4g_tracker.gallery.folders import find_results
    from t4g_tracker.gallery.site import INDEX, write_site
    from t4g_tracker.storage.files import locked_folder

    found = find_results(request.folders)
    with locked_folder(request.out) as folder:
        failures, notes = _failures(found.runs, request.failures, request.cache)
        generated_failures = _generated_failures(found, request.failures)
        write_site(folder, request.title, found, failures, notes, generated_failures)
    videos = sum(len(scene.videos) for folder in found.generated for scene in folder.scenes)
    shown = len(failures) + sum(
        len(model.shown) for models in generated_failures.values() for model in models
    )
    say(
        f"{len(found.runs)} runs, {len(found.comparisons)} comparisons, {videos} generated videos, "
        f"{shown} failures: open {request.out / INDEX}"
    )
    return 0


def _generated_failures(found: Found, count: int) -> dict[str, list[ModelFailures]]:
    """Find the ``count`` worst failures of generation of each class and model; tell what is not measured."""
    from t4g_tracker.errors import warn
    from t4g_tracker.gallery.generated_failures import CLASSES, KINDS, evidence_of
    from t4g_tracker.gallery.worst_videos import failures_by_model

    if not count or not found.generated:
        return {}
    sections: dict[str, list[ModelFailures]] = {kind: [] for kind in KINDS}
    for folder in found.generated:
        evidence, name = evidence_of(folder, found.measured), folder.path.resolve().name
        lacking: dict[str, int] = {}
        for kind, models in sections.items():
            models += failures_by_model(kind, name, evidence, count)
            if missing := sum(not one.known(kind) for one in evidence):
                lacking[kind] = missing
        if lacking:
            counts = ", ".join(
                f"{CLASSES[kind].heading.lower()!r} ({number})" for kind, number in lacking.items()
            )
            commands = "; run ".join(dict.fromkeys(CLASSES[kind].measured_by for kind in lacking))
            warn(
                f"{folder.path}: some of {len(evidence)} videos are not searched for {counts}; run "
                + commands.replace("FOLDER", shlex.quote(str(folder.path)))
            )
    return sections


def _failures(runs: list[ResultFolder], count: int, cache: Path) -> tuple[list[Shown], list[str]]:
    """Find the ``count`` worst failures of each class over all runs, and paint them.

    A run is opened once to find its failures, and once more if some are to be painted: all at once would
    not fit into memory.
    """
    import numpy as np

    from t4g_tracker.commands.gallery_run import OpenedRun
    from t4g_tracker.diagnosis.pictures import filmstrip, legend
    from t4g_tracker.errors import TrackerError, warn
    from t4g_tracker.gallery.failures import KINDS, Failure, find_failures
    from t4g_tracker.gallery.site import Shown

    candidates: list[tuple[ResultFolder, Failure]] = []
    notes: list[str] = []
    for run in runs if count else []:
        try:
            opened = OpenedRun.of(run, cache)
        except TrackerError as error:  # names folders of this machine, which are not for the page
            warn(f"{run.path}: is not searched for failures, {error}")
            notes.append(f"{run.name}: was not searched for failures, since its inputs cannot be read.")
            continue
        notes += [f"{run.name}: {note}." for note in opened.notes]
        start = opened.tracked.video.start_frame
        candidates += [(run, failure) for failure in find_failures(opened.evidence, start)]
    chosen = []
    for kind in KINDS:
        mine = [entry for entry in candidates if entry[1].kind == kind]
        chosen += sorted(mine, key=lambda entry: -entry[1].weight)[:count]
    painted: dict[int, Shown] = {}
    for run in runs:
        wanted = [entry for entry in chosen if entry[0] is run]
        if not wanted:
            continue
        tracked = OpenedRun.of(run, cache).tracked
        for entry in wanted:
            failure, name = entry[1], tracked.queries.names[entry[1].point]
            strip = filmstrip(tracked, failure.point, failure.frames, f"{name} {failure.text}")
            picture = np.concatenate([strip, legend(tracked)])
            painted[chosen.index(entry)] = Shown(run.name, name, failure, picture)
    return [painted[index] for index in sorted(painted)], notes
