"""What a run is to generate, and whatever decides whether a video of an earlier run is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from t4g_tracker.datatypes import QueryPoints
from t4g_tracker.generation.models import Model
from t4g_tracker.generation.pictures import Picture
from t4g_tracker.generation.settings import GenerationConfig
from t4g_tracker.outputs.generated import frame_name, frames_name, tracks_names, video_name
from t4g_tracker.storage.files import plain_values


@dataclass(frozen=True)
class Grid:
    """The points to track in the videos of one picture."""

    queries: QueryPoints
    across: int
    mask: str  # digest; empty without one


@dataclass(frozen=True)
class Generation:
    """What to generate, all of it checked."""

    pictures: Sequence[Picture]
    models: Sequence[Model]
    seeds: Sequence[int]
    config: GenerationConfig
    dtype: torch.dtype
    device: torch.device
    grids: Mapping[str, Grid]  # by picture; empty if no tracks are wanted
    save_frames: bool


@dataclass(frozen=True)
class Wanted:
    """One video to make."""

    picture: Picture
    model: Model
    seed: int
    grid: Grid | None
    save_frames: bool

    @property
    def name(self) -> str:
        return video_name(self.picture.name, self.model.name, self.seed)

    @property
    def tracks(self) -> list[str]:
        """The files of its tracks: npz, and the film."""
        return tracks_names(self.name) if self.grid else []

    def files(self, frames: int) -> list[str]:
        """All its files."""
        folder = frames_name(self.name)
        pictures = [f"{folder}/{frame_name(frame)}" for frame in range(frames)] if self.save_frames else []
        return [self.name, *self.tracks, *pictures]


def all_videos(what: Generation) -> list[Wanted]:
    """List the videos of a run, those of one model together."""
    return [
        Wanted(picture, model, seed, what.grids.get(picture.name), what.save_frames)
        for model in what.models
        for picture in what.pictures
        for seed in what.seeds
    ]


def settings_of(video: Wanted, what: Generation) -> dict[str, Any]:
    """Whatever changes the files of a video."""
    frames = video.model.frames(what.config)
    settings = {
        **plain_values(replace(what.config, frames=frames)),
        "seed": video.seed,
        "picture": video.picture.digest,
        "weights": video.model.weights,
        "decoder": "linear" if video.model.linear else "own",
        "precision": str(what.dtype).removeprefix("torch."),
    }
    if video.grid is not None:
        settings["tracks"] = {
            "grid": video.grid.across,
            "mask": video.grid.mask,
            "refined": video.model.refined,
        }
    return settings
