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
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from t4g_tracker.features import model_files
from t4g_tracker.features.diffusion_folder import SETTING
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.weight_loading import loading


def load_pipeline(folder: Path, dtype: torch.dtype) -> StableVideoDiffusionPipeline:
    """Load Stable Video Diffusion on the CPU, strictly.

    The VAE stays in float32 whatever ``dtype`` is: SVD's overflows in float16, and it is only a
    twentieth of the model.

    Raises:
        WeightsError: If a part cannot be read, or a weight is missing, left over or of the wrong shape.
    """
    load = model_files.load_strictly
    feature_extractor = model_files.load_settings(CLIPImageProcessor, folder, "feature_extractor", SETTING)
    with loading(f"{SETTING}: {folder / 'feature_extractor'}", "download it again"):
        feature_extractor(torch.zeros(1, 3, 32, 32), do_resize=False, do_center_crop=False, do_rescale=False)
    image_encoder = load(CLIPVisionModelWithProjection, folder, "image_encoder", SETTING)
    return StableVideoDiffusionPipeline(
        vae=load(AutoencoderKLTemporalDecoder, folder, "vae", SETTING, torch_dtype=torch.float32),
        image_encoder=image_encoder.to(dtype),
        unet=load(UNetSpatioTemporalConditionModel, folder, "unet", SETTING, torch_dtype=dtype),
        scheduler=model_files.load_settings(EulerDiscreteScheduler, folder, "scheduler", SETTING),
        feature_extractor=feature_extractor,
    )


def load_refiner(folder: Path, dtype: torch.dtype) -> Refiner:
    """Load ``refiner/`` on the CPU, strictly; raises as ``load_pipeline`` does."""
    refiner: Refiner = model_files.load_strictly(Refiner, folder, "refiner", SETTING, torch_dtype=dtype)
    return refiner
