"""Tiny, randomly initialised Stable Video Diffusion models in the layout of the real ones."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from t4g_tracker.features.refiner import Refiner
from t4g_tracker.training.track4gen.mini import svd_scheduler

WIDTHS = (32, 64, 64, 64)  # of the UNet's blocks: up_blocks[2] has 64 channels, up_blocks[3] 32
NUM_FRAMES = 4


def tiny_svd(seed: int = 0) -> StableVideoDiffusionPipeline:
    """A whole pipeline of about a million weights, its VAE at 1/8 as SVD's."""
    torch.manual_seed(seed)
    return StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(32, 32, 32, 32)
        ),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=32,
                projection_dim=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=224,
                patch_size=56,
            )
        ),
        unet=UNetSpatioTemporalConditionModel(
            block_out_channels=WIDTHS,
            num_attention_heads=(2, 4, 4, 4),
            cross_attention_dim=16,
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24,
            layers_per_block=1,
            num_frames=NUM_FRAMES,
        ),
        scheduler=svd_scheduler(),
        feature_extractor=CLIPImageProcessor(),
    )


def save_tiny_svd(folder: Path, seed: int = 0) -> Path:
    """Save ``tiny_svd`` to ``folder`` as a plain Stable Video Diffusion folder."""
    tiny_svd(seed).save_pretrained(folder)
    return folder


def save_tiny_track4gen(folder: Path, seed: int = 0) -> Path:
    """Save a tiny Stable Video Diffusion folder that has a ``refiner/`` as well."""
    save_tiny_svd(folder, seed)
    Refiner(channels=WIDTHS[1]).save_pretrained(folder / "refiner")
    return folder
