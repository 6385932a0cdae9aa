"""Features of DINOv2 and DINO, image transformers trained without labels; each frame is processed alone.

Sources: DINOv2, arXiv:2304.07193, from whose features DINO-Tracker, arXiv:2403.14548, starts; DINO,
arXiv:2104.14294; facets of layers and overlapping patches: arXiv:2112.05814. Weights: Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Dinov2Model, ViTModel

from t4g_tracker.coordinates import Size, resize_frames
from t4g_tracker.datatypes import Empty, FeatureGrid
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features.layouts import DINO, DINOV2, Layout
from t4g_tracker.features.model_configs import config_number
from t4g_tracker.features.model_files import find_folder, load_strictly, read_configs
from t4g_tracker.features.networks import check_frames, dtype_for, in_float16, output_of
from t4g_tracker.features.settings import DinoConfig, Dinov2Config, ImageTransformerConfig
from t4g_tracker.stage_log import Progress

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1, as in the preprocessing of both
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Family:
    """How models of one kind are stored and made."""

    layout: Layout
    model_type: str  # in config.json
    patch_px: int  # where config.json does not say
    load: Callable[[Path], Any]


FAMILIES: dict[type[ImageTransformerConfig], Family] = {
    Dinov2Config: Family(
        DINOV2, "dinov2", 14, lambda folder: load_strictly(Dinov2Model, folder, ".", DINOV2.setting)
    ),
    DinoConfig: Family(
        DINO,
        "vit",
        16,
        lambda folder: load_strictly(  # features need no pooler
            ViTModel, folder, ".", DINO.setting, unused=("pooler.",), add_pooling_layer=False
        ),
    ),
}


def check(config: ImageTransformerConfig) -> Path:
    """Check that the weights are there and are of the right kind, without loading them.

    Call it before long work; a hub name is downloaded here.

    Returns:
        The folder of the weights.

    Raises:
        WeightsError: If they are missing, of another model, or cannot be downloaded.
        ConfigError: If patches are further apart than they are wide.
    """
    family = FAMILIES[type(config)]
    setting = family.layout.setting
    folder = find_folder(config.model, family.layout)
    model = read_configs(folder, family.layout)["config.json"]
    if model.get("model_type") != family.model_type:
        raise WeightsError(
            f"{setting}: {folder} is a {model.get('model_type')}, not a {family.model_type}; give "
            f"{family.layout.kind}"
        )
    layers = config_number(model, "num_hidden_layers", 12, folder / "config.json", setting)
    patch = config_number(model, "patch_size", family.patch_px, folder / "config.json", setting)
    if config.layer > layers:
        raise WeightsError(
            f"{setting}: {folder} has layers 1 to {layers}; set {config.GROUP}.layer to one of them,"
            f" or 0 for the last, not {config.layer}"
        )
    if config.patch_stride > patch:
        raise ConfigError(
            f"{config.GROUP}.patch_stride must be at most {patch}, which is a patch of {folder}, got "
            f"{config.patch_stride}"
        )
    return folder


def extract(
    frames: Tensor,
    config: ImageTransformerConfig,
    *,
    device: torch.device,
    progress: Progress | None = None,
    empty: Empty = torch.empty,
) -> FeatureGrid:
    """Compute the feature grid of a video, one frame at a time.

    The frame is resized so that patches are ``config.stride_px`` working pixels apart. Without
    ``config.patch_stride`` a patch is as wide as that, and cells tile the frame from edge to edge.
    With it, patches overlap: the patch embedding, a convolution, takes smaller steps, and the position
    encodings are interpolated to its grid. As published, nothing is padded then: a cell lies in the
    middle of its patch, and the outermost ones are half a patch from the edges.

    Args:
        frames: (T, 3, H, W) uint8 RGB at the working size.
        config: Which model, layer, facet and stride.
        device: Where the model runs.
        progress: Called with (frames done, frames in all) after each frame.
        empty: Makes the result.

    Returns:
        ``FeatureGrid`` of T frames, float16 on the CPU. DINOv2's base model at 320x576 gives 768
        channels on 40x72 cells: stride 8 px, offset 3.5 px. With ``stride_px=4 patch_stride=7``, on
        79x143 cells: stride 4 px, offset 3.5 px.

    Raises:
        WeightsError: If the weights are missing, do not fit, or give features outside the
            range of float16.
        ConfigError: If the stride does not divide both sides of the frames, or a patch does not fit in.
        ValueError: If ``frames`` is not (T, 3, H, W) uint8.
    """
    check_frames(frames)
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    stride = config.stride_px
    if size[0] % stride or size[1] % stride:
        raise ConfigError(
            f"{config.GROUP}.stride_px must divide the working size {size[1]}x{size[0]}, got {stride};"
            f" set it to 8"
        )
    folder = check(config)
    dtype = dtype_for(config.half, device)
    model = FAMILIES[type(config)].load(folder).to(device, dtype)
    patch = int(model.config.patch_size)
    step = config.patch_stride or patch
    resized = (size[0] // stride * step, size[1] // stride * step)
    if min(resized) < patch:
        raise ConfigError(
            f"{config.GROUP}.patch_stride={step} makes frames of {resized[1]}x{resized[0]}, in which no "
            f"patch of {patch} px fits; raise it"
        )
    grid = ((resized[0] - patch) // step + 1, (resized[1] - patch) // step + 1)
    _set_grid(model.embeddings, step, patch, grid)
    grids: Tensor | None = None
    with torch.no_grad():
        for index, frame in enumerate(frames):
            image = _prepared(frame.to(device), resized).to(dtype)
            cells = _layer_output(model, image, config)[:, 1:]  # the first stands for the whole image
            values = cells.transpose(1, 2).reshape(1, -1, *grid)
            grids = empty(len(frames), *values.shape[1:], dtype=torch.float16) if grids is None else grids
            grids[index] = in_float16(values, folder, config.GROUP)[0]
            if progress is not None:
                progress(index + 1, len(frames))
    offset = (patch / 2) * stride / step - 0.5  # the middle of the first patch, in working pixels
    assert grids is not None
    return FeatureGrid(grids, stride, offset, size)


def _set_grid(embeddings: Any, step: int, patch: int, grid: Size) -> None:
    """Let a model's patches be ``step`` pixels apart, and its position encodings follow their grid."""
    embeddings.patch_embeddings.projection.stride = (step, step)
    interpolate = embeddings.interpolate_pos_encoding

    def for_grid(tokens: Tensor, height: int, width: int) -> Tensor:
        encodings: Tensor = interpolate(tokens, grid[0] * patch, grid[1] * patch)  # it divides by the patch
        return encodings

    embeddings.interpolate_pos_encoding = for_grid


def _prepared(frame: Tensor, size: Size) -> Tensor:
    """Convert a uint8 frame (3, H, W) to a model's input (1, 3, *size), normalised."""
    image = resize_frames(frame[None].float() / 255, size)
    mean, std = (image.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image - mean) / std


def _layer_output(model: Any, image: Tensor, config: ImageTransformerConfig) -> Tensor:
    """Compute a facet (1, 1 + h * w, C) of one transformer block; nothing after it runs."""
    blocks = model.layers if hasattr(model, "layers") else model.encoder.layer
    block = blocks[config.layer - 1]
    wanted = block if config.facet == "token" else _projection(block.attention, config.facet)
    options = {"interpolate_pos_encoding": True} if isinstance(model, ViTModel) else {}
    output = output_of(wanted, lambda: model(image, **options))
    if isinstance(output, tuple):  # transformers before 5
        output = output[0]
    if config.facet == "token" and config.norm:
        output = model.layernorm(output)
    facet: Tensor = output
    return facet


def _projection(attention: Any, facet: str) -> nn.Module:
    """The linear layer that makes queries, keys or values of all heads."""
    if hasattr(attention, "attention"):  # transformers before 5
        projection: nn.Module = getattr(attention.attention, facet)
    else:
        projection = getattr(attention, f"{facet[0]}_proj")
    return projection
