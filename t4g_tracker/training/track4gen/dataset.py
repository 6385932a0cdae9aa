"""Training items from clips with known tracks: cached on disk, cropped differently each time, batched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from t4g_tracker.coordinates import Size
from t4g_tracker.seeds import generator_for
from t4g_tracker.storage.files import prepare_output_folder
from t4g_tracker.synthetic.clips import CLIPS_VERSION, TrainingClip, generate_clip, train_generator
from t4g_tracker.synthetic.photographs import Album
from t4g_tracker.synthetic.surfaces import SurfaceConfig
from t4g_tracker.training.loop.batches import TensorBatch
from t4g_tracker.training.loop.items import cached_or_generated
from t4g_tracker.training.track4gen.crops import Crop, crop_clip


class Clips(Protocol):
    """A numbered collection of clips with known tracks."""

    def __len__(self) -> int: ...

    def clip(self, index: int) -> TrainingClip:
        """Read or generate clip ``index``, the same every time."""
        ...


@dataclass(frozen=True)
class SyntheticClips:
    """Synthetic clips. Generating a clip takes longer than reading it, so they can be cached.

    Args:
        count: Number of different clips.
        frames: T frames in each.
        size: (H, W) pixels.
        points: N tracks in each.
        seed: Seed of the clips; no seed gives those of ``synthetic-val``.
        folder: Cache of generated clips; None generates them every time.
        album: Photographs for textures beside scikit-image's.
    """

    count: int
    frames: int
    size: Size
    points: int
    seed: int = 0
    folder: Path | None = None
    album: Album | None = None

    def __len__(self) -> int:
        return self.count

    def clip(self, index: int) -> TrainingClip:
        def generate() -> TrainingClip:
            surfaces = SurfaceConfig(more=self.album.files if self.album else ())
            return generate_clip(
                train_generator(self.seed, index), self.frames, self.size, self.points, surfaces
            )

        if self.folder is None:
            return generate()
        size = f"{self.size[0]}x{self.size[1]}"
        album = f"-{self.album.digest}" if self.album else ""
        name = f"v{CLIPS_VERSION}{album}-{size}-{self.frames}-{self.points}-{self.seed}-{index}.npz"
        return cached_or_generated(prepare_output_folder(self.folder) / name, TrainingClip, generate)


class ClipCrops(Dataset[TrainingClip]):
    """Random crops of clips, another one each time."""

    def __init__(self, clips: Clips, crop: Crop, seed: int) -> None:
        self.clips, self.crop, self.seed = clips, crop, seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: tuple[int, int]) -> TrainingClip:
        """Take crop number ``item[1]`` of clip ``item[0]``."""
        generator = generator_for(f"view {self.seed} {item[1]}")  # another word would give other crops
        return crop_clip(self.clips.clip(item[0]), self.crop, generator)


@dataclass(frozen=True)
class ClipBatch(TensorBatch):
    """B clips of F frames with P tracks each."""

    frames: Tensor  # (B, F, 3, H, W) uint8
    xy: Tensor  # (B, P, F, 2) pixels
    visibility: Tensor  # (B, P, F) bool


def collate_clips(clips: list[TrainingClip]) -> ClipBatch:
    """Stack clips of equal sizes to a batch."""
    return ClipBatch(
        torch.stack([clip.frames for clip in clips]),
        torch.stack([clip.xy for clip in clips]),
        torch.stack([clip.visibility for clip in clips]),
    )
