"""Training items for optical flow: pairs cached on disk, cropped differently each time, batched."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from t4g_tracker.seeds import generator_for
from t4g_tracker.storage.cache import make_key
from t4g_tracker.storage.files import prepare_output_folder
from t4g_tracker.synthetic.clips import CLIPS_VERSION, FlowPair, generate_pair, train_generator
from t4g_tracker.synthetic.photographs import Album
from t4g_tracker.synthetic.surfaces import SurfaceConfig
from t4g_tracker.training.flow.crops import FlowBatch, PairsConfig, crop_pair
from t4g_tracker.training.loop.items import cached_or_generated

LARGEST_HALF_PX = 60_000.0  # in the range of half precision; flow that large is not trained on


class PairCrops(Dataset[FlowBatch]):
    """Random crops of generated pairs.

    Args:
        config: Pairs and crops.
        seed: Seed of pairs and crops; no seed gives the pairs of validation.
        folder: Cache of generated pairs; None generates them every time.
        album: Photographs for textures beside scikit-image's.
    """

    def __init__(
        self, config: PairsConfig, seed: int, folder: Path | None = None, album: Album | None = None
    ) -> None:
        self.config, self.seed, self.folder, self.album = config, seed, folder, album

    def __len__(self) -> int:
        return self.config.count

    def __getitem__(self, item: tuple[int, int]) -> FlowBatch:
        """Take ``config.views`` crops of pair ``item[0]``, as a batch; ``item[1]`` decides which."""
        generator = generator_for(f"view {self.seed} {item[1]}")  # another word would give other crops
        pair = self.pair(item[0])
        return collate_pairs([crop_pair(pair, self.config, generator) for _ in range(self.config.views)])

    def pair(self, index: int) -> FlowPair:
        """Read or generate pair ``index``, the same every time, up to the half precision of cached flow."""
        config, size = self.config, (self.config.height, self.config.width)

        def generate() -> FlowPair:
            generator = train_generator(self.seed, index)
            surfaces = SurfaceConfig(more=self.album.files if self.album else ())
            return generate_pair(generator, size, surfaces, config.gaps, config.largest_motion)

        if self.folder is None:
            return generate()
        motion = make_key(gaps=config.gaps, largest_motion=config.largest_motion)[:8]
        album = f"-{self.album.digest}" if self.album else ""
        name = f"pair-v{CLIPS_VERSION}{album}-{size[0]}x{size[1]}-{motion}-{self.seed}-{index}.npz"
        path = prepare_output_folder(self.folder) / name
        pair = cached_or_generated(path, FlowPair, lambda: _with_flow(generate(), torch.float16))
        return _with_flow(pair, torch.float32)


def collate_pairs(items: list[FlowBatch]) -> FlowBatch:
    """Join batches of crops of the same size into one."""
    return FlowBatch(
        *(torch.cat([getattr(item, entry.name) for item in items]) for entry in fields(FlowBatch))
    )


def _with_flow(pair: FlowPair, dtype: torch.dtype) -> FlowPair:
    """Convert a pair's flow to another precision; half precision is exact to one part in 2000."""
    return replace(
        pair,
        forward=pair.forward.clamp(-LARGEST_HALF_PX, LARGEST_HALF_PX).to(dtype),
        backward=pair.backward.clamp(-LARGEST_HALF_PX, LARGEST_HALF_PX).to(dtype),
    )
