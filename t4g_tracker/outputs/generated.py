"""A folder of generated videos: ``IMAGE/MODEL/seed-N.mp4``, with the input ``IMAGE/input.png`` of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from t4g_tracker.errors import StudyError

INPUTS = ("input.png", "input.jpg")  # names of an input image
_VIDEO = re.compile(r"seed-(\d{1,18})\.mp4")


@dataclass(frozen=True)
class Scene:
    """What all models were given: an image and the seed of the noise; and what each made of it."""

    image: str  # name of the image's folder
    seed: int
    input: Path  # the image
    videos: dict[str, Path]  # by model


def find_scenes(folder: Path) -> list[Scene]:
    """List what was generated, by image and then by seed.

    Args:
        folder: Its folders are images; theirs, models; other files are ignored.

    Raises:
        StudyError: If ``folder`` is missing or holds no generated video, or videos without their input.
    """
    if not folder.is_dir():
        raise StudyError(f"{folder}: no such folder; give the output folder of generated videos")
    scenes = []
    for image in sorted(path for path in folder.iterdir() if path.is_dir()):
        found: dict[int, dict[str, Path]] = {}
        for video in sorted(image.glob("*/seed-*.mp4")):
            name = _VIDEO.fullmatch(video.name)
            if name is not None:
                found.setdefault(int(name[1]), {})[video.parent.name] = video
        if found:
            given = _input_of(image)
            scenes += [Scene(image.name, seed, given, found[seed]) for seed in sorted(found)]
    if not scenes:
        raise StudyError(f"{folder}: holds no video IMAGE/MODEL/seed-N.mp4; generate some first")
    return scenes


def models_of(scenes: Sequence[Scene]) -> list[str]:
    """The names of all models, sorted."""
    return sorted({model for scene in scenes for model in scene.videos})


def _input_of(folder: Path) -> Path:
    for name in INPUTS:
        if (folder / name).is_file():
            return folder / name
    raise StudyError(f"{folder}: has videos but no input image; put it there as {INPUTS[0]}")
