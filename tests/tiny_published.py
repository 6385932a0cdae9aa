"""Tiny, randomly initialised models of the other published kinds, saved in their layouts."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    StableVideoDiffusionPipeline,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from tiny_models import svd_scheduler, tiny_svd
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

from t4g_tracker.features.refiner import Refiner

ZEROSCOPE_WIDTHS = (32, 64, 64, 64)
DINOV2_WIDTH = DINO_WIDTH = 32


def save_tiny_mini(folder: Path) -> Path:
    """Save a folder shaped as the bundled one: three levels, 16 latent channels, 32 features at stride 8."""
    torch.manual_seed(0)
    shared = tiny_svd()
    StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4,
            block_out_channels=(32, 32, 32, 32),
            latent_channels=16,
        ),
        image_encoder=shared.image_encoder,
        unet=UNetSpatioTemporalConditionModel(
            in_channels=32,
            out_channels=16,
            down_block_types=("CrossAttnDownBlockSpatioTemporal",) * 2 + ("DownBlockSpatioTemporal",),
            up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 2,
            block_out_channels=(32, 64, 64),
            num_attention_heads=(2, 4, 4),
            cross_attention_dim=16,
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24,
            layers_per_block=1,
            num_frames=4,
        ),
        scheduler=svd_scheduler(),
        feature_extractor=shared.feature_extractor,
    ).save_pretrained(folder)
    Refiner(channels=32).save_pretrained(folder / "refiner")
    return folder


def save_tiny_zeroscope(folder: Path) -> Path:
    """Save a folder in ZeroScope's layout, pickled weights in the UNet as it is published."""
    torch.manual_seed(0)
    parts = {
        "vae": AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32, 32, 32, 32),
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=4,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=8,
            )
        ),
        "unet": UNet3DConditionModel(
            block_out_channels=ZEROSCOPE_WIDTHS,
            cross_attention_dim=16,
            attention_head_dim=16,
            layers_per_block=1,
            norm_num_groups=16,
        ),
    }
    for part, model in parts.items():
        model.save_pretrained(folder / part, safe_serialization=part != "unet")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    ).save_pretrained(folder / "scheduler")
    _save_tiny_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "TextToVideoSDPipeline"}))
    return folder


def _save_tiny_tokenizer(folder: Path) -> None:
    """A vocabulary that knows the beginning and the end of a prompt, and nothing between."""
    folder.mkdir()
    words = {"a": 0, "a</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 8, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    CLIPTokenizer.from_pretrained(folder)


def save_tiny_dinov2(folder: Path, **changes: float) -> Path:
    """Save a DINOv2 of two layers with 14-pixel patches, trained (as it were) at 8x8 patches."""
    torch.manual_seed(0)
    settings = {
        "hidden_size": DINOV2_WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 14,
        "image_size": 112,
    }
    Dinov2Model(Dinov2Config(**(settings | changes))).save_pretrained(folder)
    return folder


def save_tiny_dino(folder: Path) -> Path:
    """Save a DINO of two layers with 8-pixel patches as it is published: a ViT without a pooler."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=DINO_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        patch_size=8,
        image_size=64,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def save_tiny_clip(folder: Path) -> Path:
    """Save a CLIP as it is published: both halves in one file, and how to prepare images."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 8, "max_position_embeddings": 8, "projection_dim": 12},
        vision_config={**small, "image_size": 32, "patch_size": 8, "projection_dim": 12},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_center_crop=True
    ).save_pretrained(folder)
    return folder
