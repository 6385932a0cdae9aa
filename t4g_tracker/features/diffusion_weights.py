"""Finding, checking and strictly loading a Stable Video Diffusion folder, with or without a refiner."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from t4g_tracker.errors import WeightsError
from t4g_tracker.features import model_configs, model_files
from t4g_tracker.features.feedback import Feedback, add_after
from t4g_tracker.features.layouts import FEEDBACK, SVD, TRACK4GEN
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.weight_loading import loading

SETTING = SVD.setting
UNET_CLASS = "UNetSpatioTemporalConditionModel"


def find_folder(model: str, need_refiner: bool) -> Path:
    """Return the folder that ``model`` names, downloading it first if it is a hub name.

    Args:
        model: Path of a folder, or a model hub name such as "owner/name".
        need_refiner: Whether ``refiner/`` is needed too.

    Raises:
        WeightsError: If the folder is missing, or the hub cannot be reached or refuses.
    """
    return model_files.find_folder(model, TRACK4GEN if need_refiner else SVD)


def check_folder(folder: Path, block: int, need_refiner: bool) -> None:
    """Check that ``folder`` holds every part and that they fit together, without loading weights.

    Args:
        folder: A folder in diffusers layout: ``model_index.json`` and one folder for each part.
        block: UNet up-block that features are taken from.
        need_refiner: Whether ``refiner/`` is needed too.

    Raises:
        WeightsError: Names the part that is missing or does not fit.
    """
    configs = model_files.read_configs(folder, TRACK4GEN if need_refiner else SVD)
    channels = model_configs.block_channels(
        configs["unet/config.json"], folder / "unet", UNET_CLASS, block, "features.diffusion"
    )
    number, files = model_configs.config_number, {name: folder / name for name in configs}
    number(configs["unet/config.json"], "num_frames", 25, files["unet/config.json"], SETTING)
    vae = configs["vae/config.json"]
    number(vae, "scaling_factor", 0.18215, files["vae/config.json"], SETTING, model_configs.POSITIVE)
    if need_refiner:
        refiner = configs["refiner/config.json"]
        refiner_channels = number(refiner, "channels", 640, files["refiner/config.json"], SETTING)
        if channels != refiner_channels:
            raise WeightsError(
                f"{SETTING}: {folder / 'refiner'} takes {refiner_channels} channels, but up-block {block} of"
                f" the UNet gives {channels}; set features.diffusion.block to the block it was trained on"
            )
    if has_feedback(folder):
        _check_feedback(folder)


def has_feedback(folder: Path) -> bool:
    """Whether the model in a folder feeds its refined features back into its UNet."""
    return (folder / "feedback").is_dir()


def _check_feedback(folder: Path) -> None:
    """Check that the parts that feed features back fit together; raises WeightsError."""
    configs = model_files.read_configs(folder, FEEDBACK)
    number = model_configs.config_number
    feedback, file = configs["feedback/config.json"], folder / "feedback" / "config.json"
    block = number(feedback, "block", 2, file, SETTING, (0, model_configs.MOST_LAYERS))
    channels = model_configs.block_channels(
        configs["unet/config.json"], folder / "unet", UNET_CLASS, block, "features.diffusion"
    )
    for part in ("refiner", "feedback"):
        config, file = configs[f"{part}/config.json"], folder / part / "config.json"
        if number(config, "channels", 640, file, SETTING) != channels:
            raise WeightsError(
                f"{SETTING}: {folder / part} does not take the {channels} channels of up-block {block}, whose"
                " features are fed back; copy the whole folder of that training again"
            )


def load_model(folder: Path, dtype: torch.dtype, setting: str = SETTING) -> StableVideoDiffusionPipeline:
    """Load a pipeline on the CPU, strictly, that runs as it was trained: with feedback if the folder has any.

    Feedback follows the UNet to its device. It is no part of what ``save_pretrained`` writes.

    Args:
        folder: A folder that ``check_folder`` has checked.
        dtype: Of UNet, image encoder, refiner and feedback.
        setting: What names the folder, for error messages.

    Raises:
        WeightsError: If a part cannot be read, or a weight is missing, left over or of the wrong shape.
    """
    pipeline = load_pipeline(folder, dtype, setting)
    if has_feedback(folder):
        refiner, feedback = load_refiner(folder, dtype, setting), load_feedback(folder, dtype, setting)

        def addition(raw: Tensor) -> Tensor:
            added: Tensor = feedback.to(raw.device)(refiner.to(raw.device)(raw))
            return added

        add_after(pipeline.unet, feedback.config.block, addition)
    return pipeline


def load_pipeline(folder: Path, dtype: torch.dtype, setting: str = SETTING) -> StableVideoDiffusionPipeline:
    """Load Stable Video Diffusion on the CPU, strictly.

    The VAE stays in float32 whatever ``dtype`` is: SVD's overflows in float16, and it is only a
    twentieth of the model. ``setting`` is what names the folder, for error messages.

    Raises:
        WeightsError: If a part cannot be read, or a weight is missing, left over or of the wrong shape.
    """
    load = model_files.load_strictly
    feature_extractor = model_files.load_settings(CLIPImageProcessor, folder, "feature_extractor", setting)
    with loading(f"{setting}: {folder / 'feature_extractor'}", "download it again"):
        feature_extractor(torch.zeros(1, 3, 32, 32), do_resize=False, do_center_crop=False, do_rescale=False)
    image_encoder = load(CLIPVisionModelWithProjection, folder, "image_encoder", setting)
    return StableVideoDiffusionPipeline(
        vae=load(AutoencoderKLTemporalDecoder, folder, "vae", setting, torch_dtype=torch.float32),
        image_encoder=image_encoder.to(dtype),
        unet=load(UNetSpatioTemporalConditionModel, folder, "unet", setting, torch_dtype=dtype),
        scheduler=model_files.load_settings(EulerDiscreteScheduler, folder, "scheduler", setting),
        feature_extractor=feature_extractor,
    )


def load_refiner(folder: Path, dtype: torch.dtype, setting: str = SETTING) -> Refiner:
    """Load ``refiner/`` on the CPU, strictly; raises as ``load_pipeline`` does."""
    refiner: Refiner = model_files.load_strictly(Refiner, folder, "refiner", setting, torch_dtype=dtype)
    return refiner


def load_feedback(folder: Path, dtype: torch.dtype, setting: str = SETTING) -> Feedback:
    """Load ``feedback/`` on the CPU, strictly; raises as ``load_pipeline`` does."""
    feedback: Feedback = model_files.load_strictly(Feedback, folder, "feedback", setting, torch_dtype=dtype)
    return feedback
