"""The folder of a study: ``page/`` to publish, and ``key.json``, which says what is what, beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t4g_tracker.errors import StudyError, one_line
from t4g_tracker.pages.rendering import render_page
from t4g_tracker.storage.files import plain_values, replace_folder, write_json, write_text
from t4g_tracker.study.media import copy_image, copy_video, spoil_video
from t4g_tracker.study.trials import Trial

PAGE, KEY = "page", "key.json"
MEDIA = "media"  # folder within the page's
FORMAT = 1  # of key.json and of the answers
SIDES = "a", "b"  # of a trial, as the page lists them; which is shown first differs between participants


@dataclass(frozen=True)
class Question:
    """What a participant is asked about each pair.

    Source: the two questions of Track4Gen's supplement, section 1.3, in our words.
    """

    name: str  # in the answers and tables
    title: str
    text: str
    hint: str


QUESTIONS = (
    Question(
        "identity",
        "Identity",
        "In which video do the main objects stay truer to themselves?",
        "Their shapes, colours and details should stay as in the picture they start from.",
    ),
    Question(
        "motion",
        "Motion",
        "In which video do things move more naturally?",
        "Think of how they would move if somebody had filmed them.",
    ),
)


def write_study(folder: Path, trials: Sequence[Trial], ours: str, baselines: Sequence[str], seed: int) -> str:
    """Write the page with its videos, and the key.

    Names of files tell nothing of a video, not even that it is in two trials, and what files say of
    themselves is left out.

    Args:
        folder: To write ``page/`` and ``key.json`` to. Files of an earlier study there are replaced.
        trials: What to show.
        ours: The model that is compared with the baselines.
        baselines: The others.
        seed: Of the trials, for the key.

    Returns:
        The study's name, which its answers carry. Studies that show or ask anything else have other names.

    Raises:
        StudyError: If there is something else in ``folder/page``, or a file cannot be read.
        OutputError: If a file cannot be written.
    """
    _refuse_foreign(folder / PAGE)
    shown = [_shown(trial) for trial in trials]
    study = _digest(seed, ours, *baselines, *shown, *QUESTIONS, *_contents(trials))
    names = [[_digest(study, number, what) for what in ("input", *SIDES)] for number in range(len(trials))]
    listed = []
    with replace_folder(folder) as unfinished:
        media = unfinished / PAGE / MEDIA
        media.mkdir(parents=True)
        for number, trial in enumerate(trials):
            given, *videos = names[number]
            copy_image(trial.scene.input, media / f"{given}.png")
            for side, name in zip(trial.sides, videos, strict=True):
                source, target = trial.scene.videos[side.model], media / f"{name}.mp4"
                if side.spoilt:
                    spoil_video(source, target, seed)
                else:
                    copy_video(source, target)
            files = {side: f"{MEDIA}/{name}.mp4" for side, name in zip(SIDES, videos, strict=True)}
            listed.append({"id": given, "input": f"{MEDIA}/{given}.png", **files})
        content = {"format": FORMAT, "study": study, "questions": QUESTIONS, "trials": listed}
        write_text(unfinished / PAGE / "index.html", _page(content))
        key = [{"id": names[number][0], **line} for number, line in enumerate(shown)]
        facts = {"study": study, "ours": ours, "baselines": list(baselines), "seed": seed}
        write_json(unfinished / KEY, {"format": FORMAT, **facts, "trials": key})
    return study


def _shown(trial: Trial) -> dict[str, Any]:
    """What the key says of a trial."""
    sides = dict(zip(SIDES, trial.sides, strict=True))
    facts = {"kind": trial.kind, "image": trial.scene.image, "seed": trial.scene.seed}
    models = {name: side.model for name, side in sides.items()}
    spoilt = "".join(name for name, side in sides.items() if side.spoilt)
    return {**facts, **models, "baseline": trial.baseline, "spoilt": spoilt}


def _contents(trials: Sequence[Trial]) -> list[str]:
    """Digests of the files that trials show, so that videos made anew make another study."""
    found: dict[Path, str] = {}
    for trial in trials:
        for path in (trial.scene.input, *(trial.scene.videos[side.model] for side in trial.sides)):
            if path not in found:
                found[path] = _file_digest(path)
    return list(found.values())


def _file_digest(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({one_line(error)}); check the file") from error


def _digest(*what: object) -> str:
    text = "\0".join(map(str, what))
    return hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=8).hexdigest()


def _refuse_foreign(page: Path) -> None:
    """Only a page of ours is replaced."""
    if page.exists() and not ((page / "index.html").is_file() and (page.parent / KEY).is_file()):
        raise StudyError(f"{page}: is in the way and no page of a study; choose another --out")


def _page(content: dict[str, Any]) -> str:
    return render_page("study.html", content=plain_values(content))
