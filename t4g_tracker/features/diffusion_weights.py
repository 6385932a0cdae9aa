"""Finding, checking and strictly loading a Stable Video Diffusion folder, with or without a refiner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

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
from t4g_tracker.features.layouts import FEEDBACK, SVD, TRACK4GEN, Layout
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.weight_loading import loading

SETTING = SVD.setting
UNET_CLASS = "UNetSpatioTemporalConditionModel"


def find_folder(model: str, need_refiner: bool, setting: str = SETTING) -> Path:
    """Return the folder that ``model`` names, downloading it first if it is a hub name.

    Args:
        model: Path of a folder, or a model hub name such as "owner/name".
        need_refiner: Whether ``refiner/`` is needed too.
        setting: What names the model, for error messages.

    Raises:
        WeightsError: If the folder is missing, or the hub cannot be reached or refuses.
    """
    return model_files.find_folder(model, _layout(need_refiner, setting))


def _layout(need_refiner: bool, setting: str) -> Layout:
    return replace(TRACK4GEN if need_refiner else SVD, setting=setting)


def check_folder(folder: Path, block: int, need_refiner: bool, setting: str = SETTING) -> dict[str, Any]:
    """Check that ``folder`` holds every part and that they fit together, without loading weights.

    Args:
        folder: A folder in diffusers layout: ``model_index.json`` and one folder for each part.
        block: UNet up-block that features are taken from.
        need_refiner: Whether ``refiner/`` is needed too.
        setting: What names the folder, for error messages.

    Returns:
        The parsed configs, by their paths in the folder.

    Raises:
        WeightsError: Names the part that is missing or does not fit.
    """
    configs = model_files.read_configs(folder, _layout(need_refiner, setting))
    channels = model_configs.block_channels(
        configs["unet/config.json"], folder / "unet", UNET_CLASS, block, setting
    )
    number, files = model_configs.config_number, {name: folder / name for name in configs}
    number(configs["unet/config.json"], "num_frames", 25, files["unet/config.json"], setting)
    vae = configs["vae/config.json"]
    number(vae, "scaling_factor", 0.18215, files["vae/config.json"], setting, model_configs.POSITIVE)
    if need_refiner:
        refiner = configs["refiner/config.json"]
        refiner_channels = number(refiner, "channels", 640, files["refiner/config.json"], setting)
        if channels != refiner_channels:
            raise WeightsError(
                f"{setting}: {folder / 'refiner'} takes {refiner_channels} channels, but up-block {block} of"
                f" the UNet gives {channels}; set features.diffusion.block to the block it was trained on"
            )
    if has_feedback(folder):
        _check_feedback(folder, setting)
    return configs


def has_feedback(folder: Path) -> bool:
    """Whether the model in a folder feeds its refined features back into its UNet."""
    return (folder / "feedback").is_dir()


def _check_feedback(folder: Path, setting: str) -> None:
    """Check that the parts that feed features back fit together; raises WeightsError."""
    configs = model_files.read_configs(folder, replace(FEEDBACK, setting=setting))
    number = model_configs.config_number
    feedback, file = configs["feedback/config.json"], folder / "feedback" / "config.json"
    block = number(feedback, "block", 2, file, setting, (0, model_configs.MOST_LAYERS))
    channels = model_configs.block_channels(
        configs["unet/config.json"], folder / "unet", UNET_CLASS, block, setting
    )
    for part in ("refiner", "feedback"):
        config, file = configs[f"{part}/config.json"], folder / part / "config.json"
        if number(config, "channels", 640, file, setting) != channels:
            raise WeightsError(
                f"{setting}: {folder / part} does not take the {channels} channels of up-block {block}, whose"
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
