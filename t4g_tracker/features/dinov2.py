"""Features of DINOv2, an image transformer trained without labels; each frame is processed alone.

Source: arXiv:2304.07193. DINO-Tracker, arXiv:2403.14548, starts from them. Weights: Apache-2.0.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import Dinov2Model

from t4g_tracker.coordinates import centred_offset, resize_frames
from t4g_tracker.datatypes import Empty, FeatureGrid
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features.layouts import DINOV2
from t4g_tracker.features.model_configs import config_number
from t4g_tracker.features.model_files import find_folder, load_strictly, read_configs
from t4g_tracker.features.networks import check_frames, dtype_for, in_float16, output_of
from t4g_tracker.features.settings import Dinov2Config
from t4g_tracker.stage_log import Progress

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1, as in DINOv2's own preprocessing
IMAGENET_STD = (0.229, 0.224, 0.225)


def check(config: Dinov2Config) -> Path:
    """Check that the weights are there and are those of a DINOv2, without loading them.

    Call it before long work; a hub name is downloaded here.

    Returns:
        The folder of the weights.

    Raises:
        WeightsError: If they are missing, of another model, or cannot be downloaded.
    """
    folder = find_folder(config.model, DINOV2)
    model = read_configs(folder, DINOV2)["config.json"]
    if model.get("model_type") != "dinov2":
        raise WeightsError(
            f"{DINOV2.setting}: {folder} is a {model.get('model_type')}, not a dinov2; give {DINOV2.kind}"
        )
    layers = config_number(model, "num_hidden_layers", 12, folder / "config.json", DINOV2.setting)
    config_number(model, "patch_size", 14, folder / "config.json", DINOV2.setting)
    if config.layer > layers:
        raise WeightsError(
            f"{DINOV2.setting}: {folder} has layers 1 to {layers}; set features.dinov2.layer to one of them,"
            f" or 0 for the last, not {config.layer}"
        )
    return folder


def extract(
    frames: Tensor,
    config: Dinov2Config,
    *,
    device: torch.device,
    progress: Progress | None = None,
    empty: Empty = torch.empty,
) -> FeatureGrid:
    """Compute the feature grid of a video, one frame at a time.

    DINOv2 describes patches of 14 pixels. The frame is resized so that a patch covers
    ``config.stride_px`` working pixels each way; so cells are square and tile the frame from
    edge to edge. The output of any layer is normalised as DINOv2 normalises its last one.

    Args:
        frames: (T, 3, H, W) uint8 RGB at the working size.
        config: Which model, layer and stride.
        device: Where the model runs.
        progress: Called with (frames done, frames in all) after each frame.
        empty: Makes the result.

    Returns:
        ``FeatureGrid`` of T frames, float16 on the CPU. The base model at 320x576 gives 768
        channels on 40x72 cells: stride 8 px, offset 3.5 px.

    Raises:
        WeightsError: If the weights are missing, do not fit, or give features outside the
            range of float16.
        ConfigError: If the stride does not divide both sides of the frames.
        ValueError: If ``frames`` is not (T, 3, H, W) uint8.
    """
    check_frames(frames)
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    stride = config.stride_px
    if size[0] % stride or size[1] % stride:
        raise ConfigError(
            f"features.dinov2.stride_px must divide the working size {size[1]}x{size[0]}, got {stride};"
            f" set it to 8"
        )
    folder = check(config)
    dtype = dtype_for(config.half, device)
    model = load_strictly(Dinov2Model, folder, ".", DINOV2.setting).to(device, dtype)
    grid = (size[0] // stride, size[1] // stride)
    grids: Tensor | None = None
    with torch.no_grad():
        for index, frame in enumerate(frames):
            image = _prepared(frame.to(device), grid, int(model.config.patch_size)).to(dtype)
            tokens = _layer_output(model, image, config.layer)[:, 1:]  # the first stands for the whole image
            values = tokens.transpose(1, 2).reshape(1, -1, *grid)
            grids = empty(len(frames), *values.shape[1:], dtype=torch.float16) if grids is None else grids
            grids[index] = in_float16(values, folder, "features.dinov2")[0]
            if progress is not None:
                progress(index + 1, len(frames))
    assert grids is not None
    return FeatureGrid(grids, stride, centred_offset(stride), size)


def _prepared(frame: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Convert a uint8 frame (3, H, W) to DINOv2's input: (1, 3, h * patch, w * patch), normalised."""
    image = resize_frames(frame[None].float() / 255, (grid[0] * patch, grid[1] * patch))
    mean, std = (image.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image - mean) / std


def _layer_output(model: Dinov2Model, image: Tensor, layer: int) -> Tensor:
    """Compute the normalised tokens (1, 1 + h * w, C) of one transformer block; later ones do not run."""
    output = output_of(model.encoder.layer[layer - 1], lambda: model(image))
    if isinstance(output, tuple):  # transformers before 5
        output = output[0]
    tokens: Tensor = model.layernorm(output)
    return tokens
