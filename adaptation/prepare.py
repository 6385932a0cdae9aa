"""Preparing frozen features for an adapter, once per video, as the settings say; half precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from t4g_tracker.coordinates import Size, centred_offset
from t4g_tracker.datatypes import Empty, FeatureGrid

FRAMES_AT_ONCE = 16  # in single precision, which bounds memory
SHORTEST = 1e-6  # a cell shorter than this counts as empty


@dataclass(frozen=True)
class PreparedFeatures:
    """Frozen features as every adapter takes them; from ``prepare_features``."""

    values: Tensor  # (T, C, h, w) float16, cells tiling the frame from edge to edge
    working_size: Size  # (H, W) they were computed at
    centred: bool  # whether the video's mean feature was subtracted
    unit_length: bool = True  # whether every cell was scaled to unit length
    components: int = 0  # principal components that were kept; 0: all

    @property
    def channels(self) -> int:
        return int(self.values.shape[1])


def prepare_features(
    features: FeatureGrid,
    centre: bool,
    unit_length: bool = True,
    components: int = 0,
    empty: Empty = torch.empty,
) -> PreparedFeatures:
    """Subtract the video mean, keep principal components, scale cells to unit length; each if asked for.

    A part common to all cells distinguishes none of them, yet a residual would have to cancel it
    first; features after a ReLU have a large one. The features of one video vary in far fewer directions than
    those of all videos, and every step takes time in proportion to its channels. Unit length puts the
    residuals of all extractors on one scale.

    Args:
        features: Frozen features (T, C, h, w) of any floating dtype.
        centre: Whether to subtract the mean feature.
        unit_length: Whether to scale cells; cells of zeros stay zero.
        components: How many principal components to keep, which become the channels; 0, or at least
            as many as there are channels, leaves features as they are.
        empty: Makes the result.

    Raises:
        ValueError: If the cells do not tile the frame from edge to edge.
    """
    check_tiling(features)
    mean = mean_feature(features.values) if centre else None
    kept = components if 0 < components < features.values.shape[1] else 0
    directions = principal_directions(features.values, mean, kept) if kept else None
    count, channels, height, width = features.shape
    values = empty(count, kept or channels, height, width, dtype=torch.float16)
    parts = zip(features.values.split(FRAMES_AT_ONCE), values.split(FRAMES_AT_ONCE), strict=True)
    for part, prepared in parts:
        if directions is None:
            prepared.copy_(prepare_cells(part, mean, unit_length))
        else:
            projected = torch.einsum("tchw,ck->tkhw", centred(part, mean), directions)
            prepared.copy_(prepare_cells(projected, None, unit_length))
    return PreparedFeatures(values, features.working_size, centre, unit_length, kept)


def principal_directions(frozen: Tensor, mean: Tensor | None, count: int) -> Tensor:
    """The directions along which the cells of a video differ most, once they are of unit length.

    Args:
        frozen: (T, C, h, w).
        mean: (C, 1, 1) to subtract first, or None.
        count: K, at most C.

    Returns:
        (C, K) orthonormal, the most important first. The largest entry of each is positive, so that the same
        video gives the same directions.
    """
    channels = frozen.shape[1]
    spread = torch.zeros(channels, channels, dtype=torch.float64)
    for part in frozen.split(FRAMES_AT_ONCE):
        cells = normalize(centred(part, mean), dim=1, eps=SHORTEST).movedim(1, 0).flatten(1)
        spread += (cells @ cells.T).double()
    directions = torch.linalg.eigh(spread).eigenvectors.flip(1)[:, :count]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return (directions * largest.sign()).float()


def centred(frozen: Tensor, mean: Tensor | None) -> Tensor:
    """Subtract ``mean`` (C, 1, 1) from cells (T, C, h, w), in single precision; cells of zeros stay zero."""
    values = frozen.float()
    return values if mean is None else torch.where(values.any(dim=1, keepdim=True), values - mean, 0)


def mean_feature(frozen: Tensor) -> Tensor:
    """Average (T, C, h, w) over all frames and cells: (C, 1, 1), in single precision."""
    return frozen.mean(dim=(0, 2, 3), dtype=torch.float32)[:, None, None]


def prepare_cells(frozen: Tensor, mean: Tensor | None = None, unit_length: bool = True) -> Tensor:
    """Scale every cell of (T, C, h, w) to unit length, half precision, after subtracting ``mean`` (C, 1, 1).

    Cells of zeros stay zero. Without ``unit_length`` cells keep their length.
    """
    values = centred(frozen, mean)
    return (normalize(values, dim=1, eps=SHORTEST) if unit_length else values).half()


def check_tiling(features: FeatureGrid) -> None:
    """Refuse a grid whose cells do not tile the frame from edge to edge, as ``align`` assumes.

    Raises:
        ValueError: If they do not.
    """
    height, width = (features.stride_px * cells for cells in features.shape[2:])
    reach = max(abs(height - features.working_size[0]), abs(width - features.working_size[1]))
    if reach > 0.5 or abs(features.offset_px - centred_offset(features.stride_px)) > 0.01:
        raise ValueError(
            f"features must tile the frame of {features.working_size} from edge to edge, got cells of stride "
            f"{features.stride_px} and offset {features.offset_px} in a grid of {features.shape[2:]}"
        )


def align(frozen: Tensor, size: Sequence[int]) -> Tensor:
    """Bring frozen features (B, C, h, w) to another grid (h', w') that tiles the same frame."""
    if list(frozen.shape[-2:]) == list(size):
        return frozen
    return interpolate(frozen, size=list(size), mode="bilinear", align_corners=False)
