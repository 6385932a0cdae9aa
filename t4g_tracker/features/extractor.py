"""Frozen features behind one interface: frames in, a ``FeatureGrid`` out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from t4g_tracker.bundled import TRACK4GEN_MINI, file_identity, find_bundled
from t4g_tracker.datatypes import Empty, FeatureGrid
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.fused import fuse
from t4g_tracker.features.networks import dtype_for
from t4g_tracker.features.patch import extract_patch
from t4g_tracker.features.settings import GROUPS, DiffusionConfig, FeaturesConfig, Kind
from t4g_tracker.stage_log import Progress

# Files beside a model that are not part of it, such as the checkpoint and clips of its training.
NOT_WEIGHTS = (".md", ".png", ".jpg", ".pt", ".jsonl", ".npz", ".done")


def effective_features(config: FeaturesConfig) -> FeaturesConfig:
    """Reset the settings of all extractors but the chosen ones to their defaults."""
    groups = {GROUPS[name] for name in (config.extractor, *config.singles)}
    return FeaturesConfig(extractor=config.extractor, **{name: getattr(config, name) for name in groups})


def uses_seed(config: FeaturesConfig) -> bool:
    """Whether the chosen extractor samples anything: a projection, or noise."""
    return any(name not in ("dinov2", "dino") for name in config.singles)


def features_precision(config: FeaturesConfig, device: torch.device) -> str:
    """The number format of the chosen extractor on a device; empty if it has only one."""
    settings = [getattr(config, GROUPS[name]) for name in config.singles]
    return " ".join(str(dtype_for(one.half, device)) for one in settings if hasattr(one, "half"))


def check_features(config: FeaturesConfig) -> str:
    """Check, before any long work, that the extractor's weights are there.

    Returns:
        Identity of the weights, for cache keys; empty if the extractor has none.

    Raises:
        WeightsError: If they are missing, incomplete or cannot be downloaded.
        ConfigError: If the settings name a model for the bundled extractor.
    """
    if config.extractor == "fused":
        return " and ".join(check_features(part) for part in _parts(config))
    folder = _weights_folder(config)
    if folder is None:
        return ""
    return weights_identity(folder)


def weights_identity(folder: Path) -> str:
    """Identify the files of a model's folder, for cache keys and records."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in NOT_WEIGHTS)
    return ";".join(f"{path.relative_to(folder)}:{file_identity(path)}" for path in files)


def extract_features(
    frames: Tensor,
    config: FeaturesConfig,
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
    empty: Empty = torch.empty,
) -> FeatureGrid:
    """Compute frozen features of every frame.

    Args:
        frames: (T, 3, H, W) uint8 at the working size.
        config: Which extractor, and its settings.
        device: Where to compute.
        seed: Of the patch projection or the diffusion noise; image transformers use no random numbers.
        progress: Called with (frames done, frames in all).
        empty: Makes the result.

    Returns:
        A ``FeatureGrid`` in half precision on the CPU. Its cells tile the frame from edge to edge, except
        those of overlapping patches.

    Raises:
        WeightsError: If the extractor's weights are missing or do not fit.
        ConfigError: If its cells cannot tile frames of this size.
    """
    if config.extractor == "fused":
        return _extract_fused(frames, config, device, seed, progress)
    if config.extractor == "patch":
        return extract_patch(frames, config.patch, device, seed, progress, empty)
    if config.extractor in ("dinov2", "dino"):
        from t4g_tracker.features import image_transformers

        settings = config.dinov2 if config.extractor == "dinov2" else config.dino
        return image_transformers.extract(frames, settings, device=device, progress=progress, empty=empty)
    if config.extractor == "zeroscope":
        from t4g_tracker.features import zeroscope

        return zeroscope.extract(
            frames, config.zeroscope, device=device, seed=seed, progress=progress, empty=empty
        )
    from t4g_tracker.features import diffusion

    model, kind = _diffusion_model(config)
    return diffusion.extract(
        frames, model, kind=kind, device=device, seed=seed, progress=progress, empty=empty
    )


def _extract_fused(
    frames: Tensor, config: FeaturesConfig, device: torch.device, seed: int, progress: Progress | None
) -> FeatureGrid:
    """Extract with both extractors, one after the other, and fuse; each counts half of the progress."""
    grids: list[FeatureGrid] = []
    for part in _parts(config):
        before = len(grids) * len(frames)

        def report(done: int, count: int, before: int = before) -> None:
            if progress is not None:
                progress((before + done) // 2, count)

        grids.append(extract_features(frames, part, device, seed, report))
    fused = config.fused
    return fuse(grids, (fused.first_weight, fused.second_weight), fused.centre)


def _parts(config: FeaturesConfig) -> list[FeaturesConfig]:
    """The settings of each extractor that is fused."""
    return [replace(config, extractor=name) for name in config.singles]


def _weights_folder(config: FeaturesConfig) -> Path | None:
    """Check the extractor's weights, after downloading them if possible, and return their folder."""
    if config.extractor == "patch":
        return None
    if config.extractor in ("dinov2", "dino"):
        from t4g_tracker.features import image_transformers

        return image_transformers.check(config.dinov2 if config.extractor == "dinov2" else config.dino)
    if config.extractor == "zeroscope":
        from t4g_tracker.features import zeroscope

        return zeroscope.check(config.zeroscope)
    from t4g_tracker.features import diffusion_folder

    return diffusion_folder.check(*_diffusion_model(config))


def _diffusion_model(config: FeaturesConfig) -> tuple[DiffusionConfig, Kind]:
    """Settings and kind of a Stable Video Diffusion model; the bundled one counts as Track4Gen."""
    if config.extractor == "svd":
        return config.diffusion, "svd"
    if config.extractor == "track4gen":
        return config.diffusion, "track4gen"
    if config.diffusion.model:
        raise ConfigError(
            f"features.diffusion.model={config.diffusion.model}: is not for track4gen-mini; set"
            " features.extractor=track4gen or svd, or leave the model empty"
        )
    return replace(config.diffusion, model=str(find_bundled(TRACK4GEN_MINI))), "track4gen"
