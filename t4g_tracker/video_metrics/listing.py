"""Which videos are measured: given ones, those of a folder, or what ``t4g generate`` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from t4g_tracker.errors import ConfigError, VideoError, suggestion
from t4g_tracker.inputs.image_sequences import VIDEO_SUFFIXES, image_files
from t4g_tracker.outputs.generated import RECORD, generated_within


@dataclass(frozen=True)
class ListedVideo:
    """A video to measure; of generated ones, what it was generated from."""

    path: Path
    model: str = ""  # empty: not known to be generated
    image: str = ""
    seed: int = 0

    @property
    def origin(self) -> tuple[str, int]:
        """What videos of several models are paired by."""
        return self.image, self.seed


def list_videos(paths: Sequence[Path]) -> list[ListedVideo]:
    """List the videos of files and folders.

    A folder is one that ``t4g generate`` wrote, with ``<image>/<model>/seed-<n>.mp4``, or one of an image or
    a model in it, of which only these videos count, no films of several or of tracks. Or it holds videos, or
    the frames of one video, or folders of frames.

    Raises:
        VideoError: If a path is missing or holds no video, if a video is listed twice, or if generated videos
            and others are mixed.
    """
    videos = [video for path in paths for video in _videos_of(path)]
    if len({bool(video.model) for video in videos}) > 1:
        other = next(video for video in videos if not video.model)
        raise VideoError(
            f"{other.path}: was not listed from a folder of t4g generate, and others were; measure them by "
            "two commands"
        )
    seen: dict[object, ListedVideo] = {}
    for video in videos:
        key = (video.model, *video.origin) if video.model else video.path.resolve()
        if key in seen:
            raise VideoError(f"{video.path}: is the same video as {seen[key].path}; give one of them")
        seen[key] = video
    return videos


def pick_baseline(videos: Sequence[ListedVideo], name: str) -> str:
    """Choose the model that others are compared with: ``name``, or the first; empty if none is known.

    Raises:
        ConfigError: If there is no model of that name.
    """
    models = list(dict.fromkeys(video.model for video in videos if video.model))
    if name and name not in models:
        there = f"there are {', '.join(models)}" if models else "give a folder that t4g generate wrote"
        raise ConfigError(
            f"--baseline {name}: is no model of these videos; {suggestion(name, models, there)}"
        )
    return name or next(iter(models), "")


def _videos_of(path: Path) -> list[ListedVideo]:
    if not path.exists():
        raise VideoError(f"{path}: no such file or folder; check the path")
    if not path.is_dir():
        return [ListedVideo(path)]
    generated = generated_within(path)
    if generated is not None:
        return [ListedVideo(**vars(video)) for video in generated]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in VIDEO_SUFFIXES]
    if files:
        return [ListedVideo(file) for file in files]
    if image_files(path):
        return [ListedVideo(path)]
    folders = [ListedVideo(entry) for entry in entries if entry.is_dir() and image_files(entry)]
    if not folders:
        raise VideoError(
            f"{path}: holds no video, no frames and no {RECORD}; give videos, or a folder of them"
        )
    return folders
