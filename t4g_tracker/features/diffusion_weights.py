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
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from t4g_tracker.errors import WeightsError
from t4g_tracker.features import model_files
from t4g_tracker.features.layouts import SVD, TRACK4GEN
from t4g_tracker.features.refiner import Refiner

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
    channels = model_files.block_channels(
        configs["unet/config.json"], folder / "unet", UNET_CLASS, block, "features.diffusion"
    )
    if need_refiner:
        refiner_channels = configs["refiner/config.json"].get("channels", 640)
        if channels != refiner_channels:
            raise WeightsError(
                f"{SETTING}: {folder / 'refiner'} takes {refiner_channels} channels, but up-block {block} of"
                f" the UNet gives {channels}; set features.diffusion.block to the block it was trained on"
            )


def load_pipeline(folder: Path, dtype: torch.dtype) -> StableVideoDiffusionPipeline:
    """Load Stable Video Diffusion on the CPU, strictly.

    The VAE stays in float32 whatever ``dtype`` is: SVD's overflows in float16, and it is only a
    twentieth of the model.

    Raises:
        WeightsError: If a part cannot be read, or a weight is missing, left over or of the wrong shape.
    """
    load = model_files.load_strictly
    image_encoder = load(CLIPVisionModelWithProjection, folder, "image_encoder", SETTING)
    return StableVideoDiffusionPipeline(
        vae=load(AutoencoderKLTemporalDecoder, folder, "vae", SETTING, torch_dtype=torch.float32),
        image_encoder=image_encoder.to(dtype),
        unet=load(UNetSpatioTemporalConditionModel, folder, "unet", SETTING, torch_dtype=dtype),
        scheduler=EulerDiscreteScheduler.from_pretrained(
            folder, subfolder="scheduler", local_files_only=True
        ),
        feature_extractor=CLIPImageProcessor.from_pretrained(
            folder, subfolder="feature_extractor", local_files_only=True
        ),
    )


def load_refiner(folder: Path, dtype: torch.dtype) -> Refiner:
    """Load ``refiner/`` on the CPU, strictly; raises as ``load_pipeline`` does."""
    refiner: Refiner = model_files.load_strictly(Refiner, folder, "refiner", SETTING, torch_dtype=dtype)
    return refiner
