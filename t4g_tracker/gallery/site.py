"""Writing the page: ``index.html``, pictures and films beside it, and ``gallery.json``, which lists them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from t4g_tracker.errors import OutputError
from t4g_tracker.gallery.failures import ALIKE, FAST, KINDS, REAPPEARED, Failure
from t4g_tracker.gallery.folders import Found, ResultFolder
from t4g_tracker.gallery.generated_failures import CLASSES as GENERATION_CLASSES
from t4g_tracker.gallery.worst_videos import ModelFailures, ShownFailure
from t4g_tracker.metrics import MEASURES
from t4g_tracker.outputs.generated import GeneratedFolder, Scene
from t4g_tracker.pages.rendering import render_page
from t4g_tracker.storage.files import replace_folder, write_json, write_text
from t4g_tracker.tables import Table, rounded
from t4g_tracker.visualize.encoding import write_picture

INDEX, LIST, MEDIA = "index.html", "gallery.json", "media"
CLASSES = {
    FAST: (
        "Fast or blurred",
        "Points that move far from frame to frame, where flow is long and frames are blurred.",
    ),
    ALIKE: (
        "Look-alikes",
        "Points that leave the flow for a match, where another place matches nearly as well.",
    ),
    REAPPEARED: (
        "After being hidden for long",
        "Points in the first frame that shows them after their longest time hidden.",
    ),
}


@dataclass(frozen=True)
class Shown:
    """A failure with its picture."""

    run: str  # name of the run
    point: str  # name of the query point
    failure: Failure
    picture: np.ndarray  # (H, W, 3) uint8


def write_site(
    folder: Path,
    title: str,
    found: Found,
    failures: Sequence[Shown],
    notes: Sequence[str],
    generated_failures: Mapping[str, Sequence[ModelFailures]],
) -> dict[str, Any]:
    """Write the page; all it shows is copied beside it, under names of its own.

    Paths of this machine and command lines are left out, since the page is for others.

    Args:
        folder: To write to. An older page of ours there is replaced.
        title: Of the page.
        found: Results.
        failures: To show, in this order.
        notes: What could not be looked into, for the page.
        generated_failures: Failures of generation of each model, by class.

    Returns:
        What ``gallery.json`` says.

    Raises:
        OutputError: If another page is in the way, or a file cannot be written.
    """
    if (folder / INDEX).exists() and not (folder / LIST).is_file():
        raise OutputError(f"{folder / INDEX}: is in the way and no gallery; choose another --out")
    with replace_folder(folder) as unfinished:
        media = _Media(unfinished)
        content = {
            "title": title,
            "failures": _failures(media, failures),
            "runs": [_run(media, number, run) for number, run in enumerate(found.runs, 1)],
            "comparisons": [
                _comparison(media, number, run) for number, run in enumerate(found.comparisons, 1)
            ],
            "generated": [
                _generated(media, number, folder) for number, folder in enumerate(found.generated, 1)
            ],
            "notes": list(notes),
        }
        content["generated_failures"] = [
            _generation_class(media, kind, models) for kind, models in generated_failures.items()
        ]
        write_text(unfinished / INDEX, render_page("gallery.html", **content))
        write_json(unfinished / LIST, content)
    return content


@dataclass(frozen=True)
class _Media:
    """The folder of pictures and films of a page."""

    page: Path
    copied: dict[Path, str] = field(default_factory=dict)  # addresses by the file

    def copy(self, source: Path, *place: str) -> str:
        """Copy a file to a place below the page, unless it is there; returns its address from the page."""
        if source not in self.copied:
            target = self._made(*place)
            shutil.copyfile(source, target)
            self.copied[source] = target.relative_to(self.page).as_posix()
        return self.copied[source]

    def paint(self, picture: np.ndarray, *place: str) -> str:
        target = self._made(*place)
        write_picture(target, picture)
        return target.relative_to(self.page).as_posix()

    def _made(self, *place: str) -> Path:
        target = self.page.joinpath(MEDIA, *place)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def _failures(media: _Media, shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """A section a class, also where nothing was found."""
    sections = []
    for kind in KINDS:
        heading, what = CLASSES[kind]
        mine = [one for one in shown if one.failure.kind == kind]
        found = [
            {
                "run": one.run,
                "point": one.point,
                "frame": one.failure.frame,
                "text": f"{one.point} {one.failure.text}.",
                "picture": media.paint(one.picture, "failures", f"{kind}-{number}.png"),
            }
            for number, one in enumerate(mine, 1)
        ]
        sections.append({"kind": kind, "heading": heading, "what": what, "found": found})
    return sections


def _copied(media: _Media, result: ResultFolder, place: str, files: Sequence[str]) -> dict[str, str]:
    """Copy files of a run; their addresses by name with _ for the dot, empty for those it has not written."""
    return {
        name.replace(".", "_"): media.copy(result.path / name, place, name) if result.has(name) else ""
        for name in files
    }


def _run(media: _Media, number: int, run: ResultFolder) -> dict[str, Any]:
    place = f"run-{number}"
    files = _copied(
        media, run, place, ["overlay.mp4", "progress.png", "progress.mp4", "curve.png", "tracks.csv"]
    )
    scores = run.record.get("scores") or {}
    rows = [
        [name, *(rounded(measures.get(key)) for key in MEASURES)]
        for name, measures in scores.items()
        if isinstance(measures, dict)
    ]
    table = Table(["", *MEASURES], rows).html() if rows else ""
    return {"name": run.name, "facts": _facts(run), "scores": table, **files}


def _facts(result: ResultFolder) -> str:
    """Clip and points in one line."""
    video, points = result.record.get("video") or {}, result.record.get("points") or {}
    size = f"{video.get('width', '?')}x{video.get('height', '?')}"
    count = points.get("count", "?")
    return f"{video.get('frames', '?')} frames of {size}, {count} point{'' if count == 1 else 's'}"


def _comparison(media: _Media, number: int, run: ResultFolder) -> dict[str, Any]:
    files = _copied(media, run, f"comparison-{number}", ["compare.png", "compare.mp4"])
    rows = [row for row in run.record.get("rows") or [] if isinstance(row, dict)]
    measured = [name for name in MEASURES if any(name in row for row in rows)]
    lines = [[str(row.get("features")), *(rounded(row.get(key)) for key in measured)] for row in rows]
    table = Table(["features", *measured], lines).html() if measured else ""
    return {"name": run.name, "facts": _facts(run), "scores": table, **files}


def _generated(media: _Media, number: int, folder: GeneratedFolder) -> dict[str, Any]:
    """A row an image and seed: the input, then a video a model, or nothing where there is none."""
    rows = []
    images = list(dict.fromkeys(scene.image for scene in folder.scenes))
    for scene in folder.scenes:
        place = f"generated-{number}", f"image-{images.index(scene.image) + 1}"  # a name may be no address
        videos = [
            media.copy(scene.videos[model], *place, f"model-{column}-seed-{scene.seed}.mp4")
            if model in scene.videos
            else ""
            for column, model in enumerate(folder.models, 1)
        ]
        given = media.copy(scene.input, *place, scene.input.name)
        rows.append(
            {
                "image": scene.image,
                "seed": scene.seed,
                "input": given,
                "videos": videos,
                "note": _compared(folder, scene),
            }
        )
    return {"name": folder.path.resolve().name, "models": folder.models, "rows": rows}


def _generation_class(media: _Media, kind: str, models: Sequence[ModelFailures]) -> dict[str, Any]:
    """A section of a class of failures of generation, also where nothing was found."""
    what = GENERATION_CLASSES[kind]
    named = len({model.folder for model in models}) > 1
    found = [
        _generation_failure(media, f"{kind}-{row}-{number}", f"{model.folder} / " if named else "", one)
        for row, model in enumerate(models, 1)
        for number, one in enumerate(model.shown, 1)
    ]
    counts = [
        [f"{model.folder} / {model.model}" if named else model.model, str(model.count), str(model.measured)]
        for model in models
    ]
    missing = sum(model.videos - model.measured for model in models)
    note = (
        f"{missing} of {sum(model.videos for model in models)} videos were not looked at, since this is not "
        f"measured of them: run {what.measured_by}."
    )
    return {
        "kind": kind,
        "heading": what.heading,
        "what": what.rule,
        "counts": Table(["model", "failures", "of videos"], counts).html(),
        "note": note if missing else "",
        "looked": any(model.measured for model in models),
        "found": found,
    }


def _generation_failure(media: _Media, name: str, folder: str, shown: ShownFailure) -> dict[str, Any]:
    evidence, failure = shown.evidence, shown.failure
    picture = shown.picture
    return {
        "video": f"{folder}{evidence.model}, {evidence.image}, seed {evidence.seed}",
        "frame": failure.frame,
        "text": f"{failure.text}.",
        "picture": "" if picture is None else media.paint(picture, "generation-failures", f"{name}.png"),
        "film": media.copy(shown.film, "generation-failures", f"{name}.mp4"),
    }


def _compared(folder: GeneratedFolder, scene: Scene) -> str:
    """Say what the record tells of how the videos of a row compare; empty if nothing."""
    where = scene.image, scene.seed, list(scene.videos)
    unlike = folder.recorded.unlike(*where)
    if unlike:
        return f"these differ in {', '.join(unlike)}"
    return "all from the same noise" if folder.recorded.from_same_noise(*where) else ""
