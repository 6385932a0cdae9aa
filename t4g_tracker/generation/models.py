"""The models that generate: found and checked before any work, loaded one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableVideoDiffusionPipeline

from t4g_tracker.bundled import WEIGHTS
from t4g_tracker.errors import ConfigError
from t4g_tracker.features import diffusion_folder, diffusion_weights
from t4g_tracker.features.extractor import weights_identity
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.features.settings import SVD_MODEL, DiffusionConfig
from t4g_tracker.generation.settings import Decoder, GenerationConfig, ModelChoice

FEATURE_BLOCK = DiffusionConfig().block  # the up-block that Track4Gen takes features from


@dataclass(frozen=True)
class Model:
    """A model that can generate; nothing of it is loaded."""

    name: str  # in results
    folder: Path
    weights: str  # digest of the names, sizes and times of its files, or of their content if bundled
    refined: bool  # whether it has Track4Gen's refiner
    fed_back: bool  # whether it feeds refined features back into its UNet
    linear: bool  # whether its latents are read by linear regression instead of its own decoder
    trained_frames: int  # frames that it was trained on
    latent_channels: int
    latent_scale: int  # pixels of a frame for each of its latents, on a side

    @property
    def setting(self) -> str:
        """What named it, for error messages."""
        return f"--models {self.name}"

    def frames(self, config: GenerationConfig) -> int:
        """How many frames its videos have."""
        return config.frames or self.trained_frames

    def noise_shape(self, config: GenerationConfig) -> tuple[int, int, int, int]:
        """The shape (N, c, h, w) of its starting noise."""
        height, width = (side // self.latent_scale for side in config.size)
        return self.frames(config), self.latent_channels, height, width

    def load(
        self, dtype: torch.dtype, device: torch.device
    ) -> tuple[StableVideoDiffusionPipeline, Refiner | None]:
        """Load the pipeline, and the refiner if it has one.

        Raises:
            WeightsError: If a part cannot be read or a weight does not fit.
        """
        pipeline = diffusion_weights.load_model(self.folder, dtype, self.setting).to(device)
        pipeline.set_progress_bar_config(disable=True)
        if not self.refined:
            return pipeline, None
        return pipeline, diffusion_weights.load_refiner(self.folder, dtype, self.setting).to(device)


def bundled_models() -> dict[str, Path]:
    """The video diffusion models that come with the program, by name."""
    return {index.parent.name: index.parent for index in sorted(WEIGHTS.glob("*/model_index.json"))}


def find_models(
    choices: Sequence[ModelChoice], config: GenerationConfig, decoder: Decoder
) -> tuple[Model, ...]:
    """Find the chosen models and check them, without loading any; a hub name is downloaded here.

    ``svd`` alone means the published Stable Video Diffusion.

    Raises:
        WeightsError: If a folder is missing, a part is, or parts do not fit together.
        ConfigError: If a model makes fewer frames than asked for.
    """
    return tuple(_find(choice, config, decoder) for choice in choices)


def _find(choice: ModelChoice, config: GenerationConfig, decoder: Decoder) -> Model:
    bundled, setting = bundled_models(), f"--models {choice.name}"
    if choice.model in bundled:
        folder = bundled[choice.model]
    else:
        named = SVD_MODEL if choice.model == "svd" else choice.model
        folder = diffusion_folder.find_folder(named, need_refiner=False, setting=setting)
    refined = (folder / "refiner").is_dir()
    configs = diffusion_folder.check_folder(folder, FEATURE_BLOCK, refined, setting)
    weak = any(map(folder.samefile, bundled.values()))  # the decoders of bundled models are hardly trained
    model = Model(
        name=choice.name,
        folder=folder,
        weights=hashlib.blake2b(weights_identity(folder).encode(), digest_size=12).hexdigest(),
        refined=refined,
        fed_back=diffusion_folder.has_feedback(folder),
        linear=decoder == "linear" or (decoder == "auto" and weak),
        trained_frames=int(configs["unet/config.json"].get("num_frames", 25)),
        latent_channels=int(configs["vae/config.json"].get("latent_channels", 4)),
        latent_scale=2 ** (_levels(configs["vae/config.json"]) - 1),
    )
    if model.frames(config) > model.trained_frames:
        raise ConfigError(
            f"--frames {config.frames}: {choice.name} was trained on {model.trained_frames} at once; give at "
            "most as many, or leave it out"
        )
    return model


def _levels(vae: Mapping[str, Any]) -> int:
    """How many levels an autoencoder has."""
    widths = vae.get("block_out_channels", ())
    return len(widths) if isinstance(widths, list | tuple) and widths else 1


def paired(models: Sequence[Model], config: GenerationConfig) -> list[list[str]]:
    """Group the names of models that start from the very same noise: those with latents of one shape."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for model in models:
        groups.setdefault(model.noise_shape(config), []).append(model.name)
    return list(groups.values())
