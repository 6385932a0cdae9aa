"""A folder of generated videos: where its files lie, and what it holds.

OUT/generation.json
OUT/<picture>/input.png, side-by-side-seed-1.mp4, side-by-side-tracks-seed-1.mp4
OUT/<picture>/<model>/seed-1.mp4, tracks-seed-1.npz, tracks-seed-1.mp4, frames-seed-1/000.png

``t4g generate`` writes it. Videos that come from elsewhere can be put into such folders, without the record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from t4g_tracker.errors import VideoError

RECORD = "generation.json"
INPUT = "input.png"
VIDEO = "IMAGE/MODEL/seed-N.mp4"  # for messages
ALIKE = {  # settings that videos to be compared should have in common, and what people call them
    "picture": "picture",
    "height": "size",
    "width": "size",
    "frames": "frames",
    "fps": "fps",
    "steps": "steps",
    "min_guidance": "guidance",
    "max_guidance": "guidance",
    "motion_bucket_id": "motion bucket",
    "noise_aug_strength": "noise on the picture",
}
NOISE = "noise"
_INPUTS = (INPUT, "input.jpg")  # of pictures from elsewhere too
_VIDEO = re.compile(r"seed-([0-9]{1,19})\.mp4")  # seeds are below 2^63


def video_name(picture: str, model: str, seed: int) -> str:
    """Path of a video inside the folder."""
    return f"{picture}/{model}/seed-{seed}.mp4"


def tracks_names(video: str) -> list[str]:
    """Paths of the tracks of a video: npz, and the film."""
    return [_beside(video, "tracks-", suffix) for suffix in (".npz", ".mp4")]


def frames_name(video: str) -> str:
    """Path of the folder of a video's frames."""
    return _beside(video, "frames-", "")


def frame_name(index: int) -> str:
    """Name of a frame in that folder."""
    return f"{index:03d}.png"


def side_by_side_name(picture: str, seed: int, tracks: bool = False) -> str:
    """Path of the film of all models side by side, or of that of their tracks."""
    return f"{picture}/side-by-side-{'tracks-' if tracks else ''}seed-{seed}.mp4"


def _beside(video: str, prefix: str, suffix: str) -> str:
    """Path of a file of the same seed beside a video."""
    path = Path(video)
    return (path.parent / f"{prefix}{path.stem}{suffix}").as_posix()


@dataclass(frozen=True)
class GeneratedVideo:
    """A video, and what it was generated from."""

    path: Path
    model: str
    image: str  # name of the picture's folder
    seed: int


@dataclass(frozen=True)
class Scene:
    """What all models were given, a picture and the seed of the noise, and what each made of it."""

    image: str  # name of the picture's folder
    seed: int
    input: Path  # the picture
    videos: dict[str, Path]  # by model


@dataclass(frozen=True)
class Recorded:
    """What the record of a folder says of its videos, which may be of several runs of unlike settings."""

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by ``video_name``
    # groups of the latest run's models, by the noise they start from
    same_noise: Sequence[Sequence[str]] = ()
    consistency: Mapping[str, float] = field(default_factory=dict)  # of embedded tracks, by ``video_name``

    def unlike(self, image: str, seed: int, models: Sequence[str]) -> list[str]:
        """Tell in what the videos of one picture and seed differ, though they are to be compared.

        Returns:
            Some of the values of ``ALIKE``, and ``NOISE`` if some start from other noise; empty if none
            differ, as far as the record tells: nothing is known of videos from elsewhere.
        """
        known = self._known(image, seed, models)
        found = [
            word
            for name, word in ALIKE.items()
            if any(one.get(name) != other.get(name) for one in known for other in known)
        ]
        groups = {group for model in models if (group := self._group(model)) is not None}
        if len(groups) > 1 or {"size", "frames"} & set(found):
            found.append(NOISE)
        return list(dict.fromkeys(found))

    def from_same_noise(self, image: str, seed: int, models: Sequence[str]) -> bool:
        """Whether the record says that the videos of one picture and seed start from the very same noise."""
        if len(self._known(image, seed, models)) < len(models) or len(models) < 2:
            return False
        groups = {self._group(model) for model in models}
        return None not in groups and NOISE not in self.unlike(image, seed, models)

    def _known(self, image: str, seed: int, models: Sequence[str]) -> list[Mapping[str, Any]]:
        names = [video_name(image, model, seed) for model in models]
        return [self.settings[name] for name in names if name in self.settings]

    def _group(self, model: str) -> int | None:
        """The number of a model's group; None if the latest run had no such model."""
        return next((number for number, group in enumerate(self.same_noise) if model in group), None)


@dataclass(frozen=True)
class GeneratedFolder:
    """What a folder of generated videos holds."""

    path: Path
    models: list[str]  # in the order of ``list_generated``, as in each scene
    scenes: list[Scene]  # by image, then by seed
    recorded: Recorded = field(default_factory=Recorded)


def list_generated(folder: Path) -> list[GeneratedVideo]:
    """List the videos of a folder, model by model, those of one by image and seed.

    Models are in the order of the record: those of the latest run as its command named them, then those of
    earlier runs. Any others follow by name.

    Args:
        folder: Its folders are images; theirs, models; other files are ignored.

    Raises:
        VideoError: If ``folder`` is missing or holds no generated video.
    """
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder; give the output folder of generated videos")
    videos = list(_videos(folder))
    if not videos:
        raise VideoError(f"{folder}: holds no video {VIDEO}; run t4g generate to its end")
    known = {model: place for place, model in enumerate(_recorded_models(folder))}
    return sorted(
        videos,
        key=lambda video: (known.get(video.model, len(known)), video.model, video.image, video.seed),
    )


def generated_within(folder: Path) -> list[GeneratedVideo] | None:
    """List the generated videos of a folder that has a record, of one of its pictures, or of one model of it.

    Returns:
        As ``list_generated``, with paths below ``folder`` as it was given; None if it is no such folder.

    Raises:
        VideoError: If it holds no generated video.
    """
    if (folder / RECORD).is_file():
        return list_generated(folder)
    place = folder.resolve()
    whole = next((above for above in place.parents[:2] if (above / RECORD).is_file()), None)
    if whole is None:
        return None
    videos = [
        replace(video, path=folder / video.path.relative_to(place))
        for video in list_generated(whole)
        if video.path.is_relative_to(place)
    ]
    if not videos:
        raise VideoError(f"{folder}: holds no video {VIDEO} of {whole}; name files, or give that folder")
    return videos


def read_generated(folder: Path) -> GeneratedFolder:
    """List what was generated, by what the models were given.

    Raises:
        VideoError: If ``folder`` is missing or holds no generated video, or videos without their picture.
    """
    videos = list_generated(folder)
    by_scene: dict[tuple[str, int], dict[str, Path]] = {}
    for video in videos:
        by_scene.setdefault((video.image, video.seed), {})[video.model] = video.path
    scenes = [
        Scene(image, seed, _input_of(folder / image), by_scene[image, seed])
        for image, seed in sorted(by_scene)
    ]
    models = list(dict.fromkeys(video.model for video in videos))
    return GeneratedFolder(folder, models, scenes, read_recorded(folder))


def find_generated(folder: Path) -> list[Path]:
    """Look for folders of generated videos: ``folder`` itself, and those below it."""
    return sorted({video.path.parents[2] for video in _videos(folder, "**/")})


def read_record(folder: Path) -> Any:
    """Read the record of a folder, unchecked; None if there is none or it is no JSON."""
    try:
        return json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def read_recorded(folder: Path) -> Recorded:
    """Read the settings of each video, its consistency, and which models start alike, as far as told."""
    record = read_record(folder)
    if not isinstance(record, dict):
        return Recorded()
    videos, groups = record.get("videos"), record.get("same_noise")
    entries = videos.items() if isinstance(videos, dict) else ()
    settings = {
        name: entry["settings"]
        for name, entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("settings"), dict)
    }
    if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
        groups = []
    consistency = {
        name: float(entry["consistency"])
        for name, entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("consistency"), int | float)
    }
    return Recorded(settings, groups, consistency)


def _videos(folder: Path, below: str = "") -> Iterator[GeneratedVideo]:
    for path in folder.glob(f"{below}*/*/seed-*.mp4"):
        name = _VIDEO.fullmatch(path.name)
        if name is not None:
            yield GeneratedVideo(path, path.parent.name, path.parents[1].name, int(name[1]))


def _recorded_models(folder: Path) -> list[str]:
    """The models of the latest run, then those of earlier ones, as far as the record tells."""
    record = read_record(folder)
    if not isinstance(record, dict):
        return []
    latest, videos = (record.get(what) for what in ("models", "videos"))
    models = list(latest) if isinstance(latest, dict) else []
    if isinstance(videos, dict):
        models += [Path(name).parent.name for name in videos]
    return list(dict.fromkeys(models))


def _input_of(folder: Path) -> Path:
    for name in _INPUTS:
        if (folder / name).is_file():
            return folder / name
    raise VideoError(f"{folder}: has videos but no input image; put it there as {INPUT}")
