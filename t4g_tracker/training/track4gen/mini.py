"""The mini configuration: a Stable Video Diffusion of the same classes, small enough to bundle.

The UNet has three levels instead of four, so ``up_blocks[2]`` is the last and its cells are as fine
as the latents. Attention is at the coarsest level only, where it is cheap on a CPU.
"""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

SEGMENT_FRAMES = 4
FEATURE_CHANNELS = 128  # of up_blocks[2], and of the refiner
EMBEDDING_CHANNELS = 64  # of CLIP's embedding of the first frame, which conditions the UNet


def svd_scheduler() -> EulerDiscreteScheduler:
    """Make the noise schedule of the published Stable Video Diffusion."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        steps_offset=1,
        sigma_min=0.002,
        sigma_max=700.0,
        use_karras_sigmas=True,
    )


def mini_unet(latent_channels: int) -> UNetSpatioTemporalConditionModel:
    """Make an untrained UNet of about 8.3 million weights."""
    widths = (FEATURE_CHANNELS, 96, 96)
    return UNetSpatioTemporalConditionModel(
        in_channels=2 * latent_channels,  # the noisy latents, and those of the first frame
        out_channels=latent_channels,
        block_out_channels=widths,
        num_attention_heads=tuple(width // 32 for width in widths),
        down_block_types=(
            "DownBlockSpatioTemporal",
            "DownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
        ),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        cross_attention_dim=EMBEDDING_CHANNELS,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,  # fps, motion and noise, 32 channels each
        layers_per_block=1,
        num_frames=SEGMENT_FRAMES,
    )


def mini_image_encoder() -> CLIPVisionModelWithProjection:
    """Make an untrained image encoder of CLIP's class with about 0.3 million weights."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            projection_dim=EMBEDDING_CHANNELS,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=224,
            patch_size=32,
        )
    )


def mini_pipeline(vae: AutoencoderKLTemporalDecoder, seed: int) -> StableVideoDiffusionPipeline:
    """Make a pipeline around a trained autoencoder, with all other parts initialised by ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StableVideoDiffusionPipeline(
            vae=vae,
            image_encoder=mini_image_encoder(),
            unet=mini_unet(vae.config.latent_channels),
            scheduler=svd_scheduler(),
            feature_extractor=CLIPImageProcessor(),
        )
