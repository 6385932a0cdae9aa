"""Features from inside ZeroScope, a text-to-video diffusion UNet, given an empty prompt.

The weights are under CC-BY-NC-4.0: not for commercial use.

Source: https://huggingface.co/cerspense/zeroscope_v2_576w, trained from ModelScope's
text-to-video model, arXiv:2308.06571.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from t4g_tracker.datatypes import Empty, FeatureGrid
from t4g_tracker.errors import WeightsError
from t4g_tracker.features.layouts import ZEROSCOPE
from t4g_tracker.features.model_configs import POSITIVE, block_channels, config_number
from t4g_tracker.features.model_files import (
    find_folder,
    load_settings,
    load_strictly,
    read_configs,
)
from t4g_tracker.features.networks import (
    check_frames,
    dtype_for,
    in_float16,
    output_of,
    scaled_latents,
    segment_features,
    tiled_grid,
)
from t4g_tracker.features.settings import ZeroscopeConfig
from t4g_tracker.stage_log import Progress
from t4g_tracker.weight_loading import loading


@dataclass(frozen=True)
class _Model:
    """The parts of ZeroScope that features need."""

    unet: UNet3DConditionModel
    vae: AutoencoderKL
    scheduler: DDIMScheduler
    empty_prompt: Tensor  # (1, tokens, C) output of the text encoder for an empty text


def check(config: ZeroscopeConfig) -> Path:
    """Check that the weights are there and fit together, without loading them.

    Call it before long work; a hub name is downloaded here.

    Returns:
        The folder of the weights.

    Raises:
        WeightsError: If a part is missing, does not fit, or cannot be downloaded.
    """
    folder = find_folder(config.model, ZEROSCOPE)
    configs = read_configs(folder, ZEROSCOPE)
    unet, text = configs["unet/config.json"], configs["text_encoder/config.json"]
    block_channels(unet, folder / "unet", "UNet3DConditionModel", config.block, "features.zeroscope.model")
    if unet.get("cross_attention_dim", 1024) != text.get("hidden_size", 512):
        raise WeightsError(
            f"features.zeroscope.model: {folder / 'text_encoder'} gives {text.get('hidden_size', 512)}"
            f" channels, but the UNet takes {unet.get('cross_attention_dim', 1024)}; take both from one model"
        )
    scheduler = configs["scheduler/scheduler_config.json"]
    place = folder / "scheduler" / "scheduler_config.json"
    steps = config_number(scheduler, "num_train_timesteps", 1000, place, ZEROSCOPE.setting)
    vae = folder / "vae" / "config.json"
    config_number(configs["vae/config.json"], "scaling_factor", 0.18215, vae, ZEROSCOPE.setting, POSITIVE)
    if config.timestep >= steps:
        raise WeightsError(
            f"features.zeroscope.model: {folder} has timesteps 0 to {steps - 1}; set"
            f" features.zeroscope.timestep to one of them, not {config.timestep}"
        )
    _tokenizer(folder)
    return folder


def extract(
    frames: Tensor,
    config: ZeroscopeConfig,
    *,
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
    empty: Empty = torch.empty,
) -> FeatureGrid:
    """Compute the feature grid of a video, segment by segment.

    The UNet runs on the frames' latents, noised to ``config.timestep``, with an empty prompt, up to
    the chosen block. Noise is sampled segment by segment from one generator on the CPU.

    Args:
        frames: (T, 3, H, W) uint8 RGB at the working size.
        config: Which model, block and noise.
        device: Where the model runs.
        seed: Of the noise. The same seed on the same machine gives the same features.
        progress: Called with (frames done, frames in all) after each segment.
        empty: Makes the result.

    Returns:
        ``FeatureGrid`` of T frames, float16 on the CPU. Block 2 at 320x576 gives 640 channels
        on 40x72 cells: stride 8 px, offset 3.5 px.

    Raises:
        WeightsError: If the weights are missing, do not fit, or give features outside the
            range of float16.
        ConfigError: If the block's cells are not square at this working size.
        ValueError: If ``frames`` is not (T, 3, H, W) uint8.
    """
    check_frames(frames)
    folder = check(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model = _load(folder, dtype_for(config.half, device), device)

        def extract_segment(segment: Tensor, keep: slice) -> Tensor:
            output = _block_output(model, segment, config, generator)
            return in_float16(output[keep], folder, "features.zeroscope")

        values = segment_features(frames, config.segment_frames, extract_segment, progress, empty)
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    return tiled_grid(values, size, f"features.zeroscope.block={config.block}")


def _block_output(
    model: _Model, frames: Tensor, config: ZeroscopeConfig, generator: torch.Generator
) -> Tensor:
    """Compute the output (N, C, h, w) of one up-block for one segment (N, 3, H, W)."""
    latents = scaled_latents(model.vae, frames)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    step = torch.tensor([config.timestep], device=latents.device)
    noisy = model.scheduler.add_noise(latents, noise, step).to(model.unet.dtype)
    clip = noisy.transpose(0, 1)[None]  # (1, 4, N, H/8, W/8), as the UNet takes a video
    output: Tensor = output_of(
        model.unet.up_blocks[config.block],
        lambda: model.unet(clip, step, encoder_hidden_states=model.empty_prompt),
    )
    return output


def _load(folder: Path, dtype: torch.dtype, device: torch.device) -> _Model:
    """Load the parts strictly: the VAE, which is small, in float32, the text encoder only for the prompt."""
    setting = ZEROSCOPE.setting
    with loading(f"{setting}: {folder / 'tokenizer'}", "download it again"):
        tokens = _tokenizer(folder)("", padding="max_length", return_tensors="pt")
    text_encoder = load_strictly(CLIPTextModel, folder, "text_encoder", setting, torch_dtype=torch.float32)
    empty_prompt = text_encoder(tokens.input_ids)[0].to(device, dtype)
    del text_encoder
    unet = load_strictly(UNet3DConditionModel, folder, "unet", setting, torch_dtype=dtype)
    vae = load_strictly(AutoencoderKL, folder, "vae", setting, torch_dtype=torch.float32)
    scheduler = load_settings(DDIMScheduler, folder, "scheduler", setting)
    return _Model(unet.to(device), vae.to(device), scheduler, empty_prompt)


def _tokenizer(folder: Path) -> CLIPTokenizer:
    return load_settings(CLIPTokenizer, folder, "tokenizer", ZEROSCOPE.setting)
