"""RAFT optical flow with torchvision's model, encoding every frame once instead of once a pair.

Source: Teed and Deng, RAFT, arXiv:2003.12039.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.optical_flow import (
    RAFT,
    Raft_Large_Weights,
    Raft_Small_Weights,
    raft_large,
    raft_small,
)

from t4g_tracker.bundled import RAFT_MINI, find_bundled
from t4g_tracker.datatypes import Empty
from t4g_tracker.errors import WeightsError, one_line
from t4g_tracker.stage_log import Progress
from t4g_tracker.weight_loading import loading

Variant = Literal["raft-mini", "raft-small", "raft-large"]

STRIDE_PX = 8  # RAFT's encoders halve three times
SMALLEST_SIDE_PX = 128  # below, the last level of its correlation pyramid is a single cell

_BUILDERS = {"raft-mini": raft_small, "raft-small": raft_small, "raft-large": raft_large}
_PUBLISHED: dict[str, Raft_Small_Weights | Raft_Large_Weights] = {
    "raft-small": Raft_Small_Weights.DEFAULT,
    "raft-large": Raft_Large_Weights.DEFAULT,
}


def published_file(variant: Variant) -> Path:
    """Where PyTorch's cache puts the published weights, whether or not they are there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(_PUBLISHED[variant].url).path).name


def load_raft(variant: Variant, weights: str, device: torch.device) -> RAFT:
    """Build torchvision's RAFT with its weights, in evaluation mode.

    Args:
        variant: Which of the two published sizes; "raft-mini" is the small one.
        weights: Path to a ``.safetensors`` or ``.pth`` state dict of that model. Empty takes
            the bundled weights for "raft-mini", and for the others torchvision's published
            ones, from PyTorch's cache or its download host.
        device: Where the model runs.

    Returns:
        The model, frozen.

    Raises:
        WeightsError: If the weights are not available or do not fit the model exactly.
    """
    model = _BUILDERS[variant](weights=None)
    if variant == "raft-mini" and not weights:
        weights = str(find_bundled(RAFT_MINI))
    state = _read_state(Path(weights).expanduser()) if weights else _published_state(variant)
    fault = _misfit(state)
    if not fault:
        try:
            model.load_state_dict(state, strict=True)
        except RuntimeError as error:  # names or shapes
            fault = one_line(error)
    if fault:
        source = weights or _PUBLISHED[variant].url
        raise WeightsError(
            f"{source}: does not hold the weights of torchvision's {_BUILDERS[variant].__name__}"
            f" ({fault}); choose the flow.method that fits them"
        )
    return model.eval().requires_grad_(False).to(device)


def raft_flow_pairs(
    model: RAFT,
    frames: Tensor,
    pairs: list[tuple[int, int]],
    updates: int,
    device: torch.device,
    progress: Progress | None = None,
    empty: Empty = torch.empty,
) -> Tensor:
    """Compute the flow of a list of frame pairs.

    RAFT encodes an image without looking at its partner. So each frame is encoded once,
    however many pairs it is part of, and torchvision's own forward pass runs on the
    encodings: the flows equal those of calling the model on each pair. Pairs are processed
    in the order of their later frame, and an encoding is dropped after its frame's last pair,
    so neighbouring pairs need two encodings at a time, however long the video.

    Frames whose sides are not multiples of 8, or are below 128 pixels, have their edges
    repeated to the right and below; the flow there is cut off.

    Args:
        model: From ``load_raft``, on ``device``.
        frames: (T, 3, H, W) uint8 RGB at the working size.
        pairs: P pairs (from, to) of frame indices.
        updates: Recurrent updates a pair. At least 1; torchvision's default is 12.
        device: Where the model is.
        progress: Called with (pairs done, pairs in all).
        empty: Makes the result.

    Returns:
        (P, 2, H, W) float16 on the CPU, displacement (dx, dy) in working pixels.

    Raises:
        ValueError: If ``frames`` is not (T, 3, H, W) uint8.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames must be (T, 3, H, W) uint8, got {tuple(frames.shape)} {frames.dtype}")
    height, width = frames.shape[-2:]
    flows = empty(len(pairs), 2, height, width, dtype=torch.float16)
    order = sorted(range(len(pairs)), key=lambda index: max(pairs[index]))
    last_use = {frame: turn for turn, index in enumerate(order) for frame in pairs[index]}
    encoded: dict[int, _Encoding] = {}
    with torch.inference_mode():
        for turn, index in enumerate(order):
            first, second = pairs[index]
            for frame in (first, second):
                if frame not in encoded:
                    encoded[frame] = _Encoding(model, _prepared(frames[frame], device))
            flow = encoded[first].flow_to(encoded[second], updates)
            flows[index] = flow[0, :, :height, :width].cpu()
            for frame in {first, second}:
                if last_use[frame] == turn:
                    del encoded[frame]
            if progress is not None:
                progress(turn + 1, len(pairs))
    return flows


class _Encoding:
    """The output of RAFT's two encoders for one frame."""

    def __init__(self, model: RAFT, image: Tensor) -> None:
        self.model = model
        self.image = image
        self.features: Tensor = model.feature_encoder(image)
        self.context: Tensor = model.context_encoder(image)

    def flow_to(self, other: _Encoding, updates: int) -> Tensor:
        """Flow (1, 2, H, W) from this frame to ``other``."""
        pair = RAFT(
            feature_encoder=KnownEncoding(torch.cat([self.features, other.features])),
            context_encoder=KnownEncoding(self.context),
            corr_block=self.model.corr_block,
            update_block=self.model.update_block,
            mask_predictor=self.model.mask_predictor,
        )
        flow: Tensor = pair(self.image, other.image, num_flow_updates=updates)[-1]
        return flow


class KnownEncoding(nn.Module):
    """An encoder that returns a known encoding, so that RAFT's forward pass need not encode again."""

    def __init__(self, encoding: Tensor) -> None:
        super().__init__()
        self.encoding = encoding

    def forward(self, images: Tensor) -> Tensor:
        return self.encoding


def _prepared(frame: Tensor, device: torch.device) -> Tensor:
    """Convert a uint8 frame to RAFT's input: a batch of one in -1..1, padded as its pyramid needs."""
    image = frame.to(device).float()[None] / 127.5 - 1
    padding = [max(SMALLEST_SIDE_PX, -(-side // STRIDE_PX) * STRIDE_PX) - side for side in frame.shape[-2:]]
    if any(padding):
        image = nn.functional.pad(image, (0, padding[1], 0, padding[0]), mode="replicate")
    return image


def _published_state(variant: Variant) -> Any:
    """Read torchvision's published weights from PyTorch's cache, or else from its download host."""
    published = _PUBLISHED[variant]
    place, cached = urlparse(published.url), published_file(variant)
    if cached.exists():
        return _read_state(cached)
    try:
        return published.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"RAFT's weights could not be downloaded from {place.netloc} ({one_line(error)}); fetch"
            f" {published.url} elsewhere and put it at {cached}, or name it with --set flow.weights=FILE,"
            f" or use --set flow.method=dis"
        ) from error


def _read_state(path: Path) -> Any:
    """Read what should be a state dict; raise WeightsError if the file cannot be read."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; RAFT's weights are a .safetensors or .pth state dict")
    with loading(f"{path}:", "give a .safetensors or .pth state dict of RAFT, or fetch it again"):
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)


def _misfit(state: Any) -> str:
    """Say what is wrong with a state, but for names and shapes, which loading checks; empty if nothing is."""
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        return "it holds something else than tensors by name"
    for name, value in state.items():
        counts = name.endswith("num_batches_tracked")
        if value.is_complex() or value.is_floating_point() == counts:
            return f"{name} holds {value.dtype}"
        if not value.isfinite().all():
            return f"{name} holds numbers that are not finite"
    return ""
