"""Strictly loading a Stable Video Diffusion folder, with or without a refiner."""

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

from t4g_tracker.features import model_files
from t4g_tracker.features.diffusion_folder import SETTING, has_feedback
from t4g_tracker.features.feedback import Feedback, add_after
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.weight_loading import loading


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
