"""Frozen features behind one interface: frames in, a ``FeatureGrid`` out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.features.diffusion_config import DiffusionConfig
from t4g_tracker.features.patch import PatchConfig, extract_patch

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Which frozen features a video is described by."""

    extractor: Literal["patch", "track4gen", "svd"] = "patch"
    patch: PatchConfig = field(default_factory=PatchConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)  # track4gen and svd


def check_features(config: FeaturesConfig) -> str:
    """Look whether the extractor's weights are there, before any long work.

    Returns:
        What identifies the weights, for cache keys; empty when there are none.

    Raises:
        WeightsError: If they are missing, incomplete or cannot be fetched.
    """
    if config.extractor == "patch":
        return ""
    from t4g_tracker.features.diffusion import check

    folder = check(config.diffusion, config.extractor)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return ";".join(
        f"{path.relative_to(folder)}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files
    )


def extract_features(
    frames: Tensor,
    config: FeaturesConfig,
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
) -> FeatureGrid:
    """Compute frozen features of every frame.

    Args:
        frames: (T, 3, H, W) uint8 at the working size.
        config: Which extractor, and its settings.
        device: Where to compute.
        seed: Of the patch projection, or of the diffusion noise.
        progress: Called with (frames done, frames in all).

    Returns:
        A ``FeatureGrid`` in half precision on the CPU.

    Raises:
        WeightsError: If the extractor's weights are missing or do not fit.
    """
    if config.extractor == "patch":
        return extract_patch(frames, config.patch, device, seed, progress)
    from t4g_tracker.features.diffusion import extract

    return extract(
        frames, config.diffusion, kind=config.extractor, device=device, seed=seed, progress=progress
    )
