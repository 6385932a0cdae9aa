"""The model that a training of Track4Gen starts from, and the model folder that it writes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline

from t4g_tracker.errors import WeightsError
from t4g_tracker.features.diffusion_folder import check_folder, find_folder, has_feedback
from t4g_tracker.features.diffusion_weights import load_feedback, load_pipeline, load_refiner
from t4g_tracker.features.feedback import Feedback
from t4g_tracker.features.model_files import load_strictly
from t4g_tracker.features.not_here import NotHere
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.features.settings import DiffusionConfig
from t4g_tracker.storage.files import replace_folder
from t4g_tracker.training.track4gen.mini import FEATURE_CHANNELS, mini_pipeline
from t4g_tracker.training.track4gen.objective import ObjectiveConfig, Track4GenObjective


@dataclass(frozen=True)
class StartingPoint:
    """The parts that a training goes on from."""

    pipeline: StableVideoDiffusionPipeline
    refiner: Refiner  # new if the model had none
    feedback: Feedback | None = None  # None if the model has none
    not_here: NotHere | None = None  # None if the model has none

    def objective(self, config: ObjectiveConfig, segment_frames: int) -> Track4GenObjective:
        """Make the objective that trains these parts."""
        return Track4GenObjective(
            self.pipeline, self.refiner, config, segment_frames, self.feedback, self.not_here
        )

    def modules(self) -> list[Any]:
        """List the parts that have weights."""
        parts = [self.pipeline.vae, self.pipeline.image_encoder, self.pipeline.unet, self.refiner]
        return parts + [part for part in (self.feedback, self.not_here) if part is not None]


def is_autoencoder(folder: Path) -> bool:
    """Whether ``t4g train-autoencoder`` wrote a folder."""
    return (folder / "vae").is_dir() and not (folder / "unet").exists()


def load_autoencoder(folder: Path) -> AutoencoderKLTemporalDecoder:
    """Load the autoencoder that ``t4g train-autoencoder`` wrote, in single precision, trainable.

    Raises:
        WeightsError: If it is missing or damaged.
    """
    if not (folder / "vae" / "config.json").is_file():
        raise WeightsError(
            f"{folder / 'vae'}: holds no autoencoder; run t4g train-autoencoder --part encoder first"
        )
    loaded: AutoencoderKLTemporalDecoder = load_strictly(
        AutoencoderKLTemporalDecoder, folder, "vae", "t4g train-autoencoder", torch_dtype=torch.float32
    )
    return loaded.requires_grad_(True)


def starting_point(source: str, config: ObjectiveConfig, seed: int, option: str = "--from") -> StartingPoint:
    """Load the model that ``source`` names, with a new refiner that fits if it has none.

    Args:
        source: A Stable Video Diffusion folder or hub name, or a folder of ``t4g train-autoencoder``.
        config: Names the block whose features are refined, and how a new refiner begins.
        seed: Seed of new weights.
        option: The option that names the source, for error messages.

    Raises:
        WeightsError: If the folder is neither a pipeline nor one of ``t4g train-autoencoder``, its
            parts do not fit together, or it has feedback and the training would leave that out.
    """
    folder = Path(source).expanduser()
    if is_autoencoder(folder):
        pipeline = mini_pipeline(load_autoencoder(folder), seed)
        return StartingPoint(pipeline, _new_refiner(FEATURE_CHANNELS, config, seed))
    try:
        folder = find_folder(source, need_refiner=False)
        refined, fed_back = (folder / "refiner").is_dir(), has_feedback(folder)
        check_folder(folder, config.block, refined)
        if fed_back and not config.feedback:
            raise WeightsError(f"{folder} has feedback, which it denoises with; set objective.feedback=true")
        pipeline = load_pipeline(folder, torch.float32)
        channels = pipeline.unet.config.block_out_channels[-1 - config.block]
        return StartingPoint(
            pipeline,
            load_refiner(folder, torch.float32) if refined else _new_refiner(channels, config, seed),
            load_feedback(folder, torch.float32) if fed_back else None,
            _load_not_here(folder),
        )
    except WeightsError as error:
        raise WeightsError(f"{option} {source}: {error}") from error


def _new_refiner(channels: int, config: ObjectiveConfig, seed: int) -> Refiner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        refiner = Refiner(channels=channels)
    if config.refiner_start == "identity":
        refiner.start_as_identity()
    return refiner


def _load_not_here(folder: Path) -> NotHere | None:
    if not (folder / "not_here").is_dir():
        return None
    loaded: NotHere = load_strictly(
        NotHere, folder, "not_here", "features.diffusion.model", torch_dtype=torch.float32
    )
    return loaded


def save_model(folder: Path, objective: Track4GenObjective, pipeline: StableVideoDiffusionPipeline) -> None:
    """Write the trained parts in half precision, in the layout that the extractor reads.

    An earlier model in the folder is replaced only once the new one is whole; other files stay.

    Raises:
        OutputError: If it cannot be written.
    """
    config = objective.config
    if config.train_image_encoder:
        pipeline.register_modules(image_encoder=objective.image_encoder)
    objective.unet.register_to_config(num_frames=objective.segment_frames)
    pipeline.register_modules(unet=objective.unet)
    with replace_folder(folder) as temporary:
        save_half(pipeline, temporary)
        if config.refines:
            save_half(objective.refiner, temporary / "refiner")
        if config.feedback:
            save_half(objective.feedback, temporary / "feedback")
        if config.names_hidden:
            save_half(objective.not_here, temporary / "not_here")


def save_half(model: Any, folder: Path) -> None:
    """Write a pipeline or a model of diffusers in half precision, without the path it was loaded from."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # of writing shards
    model.to("cpu", torch.float16).save_pretrained(folder)
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def extractor_settings(model: Path, trained: ObjectiveConfig, refined: bool) -> list[str]:
    """List the settings that extract the trained features, except those at their defaults."""
    config = DiffusionConfig(
        model=str(model),
        refiner=refined,
        block=trained.block,
        noise_sigma=trained.low_noise_sigma,
        noise_aug_strength=trained.noise_aug_strength,
        fps=trained.fps,
        motion_bucket_id=trained.motion_bucket_id,
    )
    defaults = asdict(DiffusionConfig())
    return [
        f"features.diffusion.{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in asdict(config).items()
        if value != defaults[name]
    ]
