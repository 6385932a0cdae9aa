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


@dataclass(frozen=True)
class PreparedFeatures:
    """Frozen features as every adapter takes them; from ``prepare_features``."""

    values: Tensor  # (T, C, h, w) float16, cells tiling the frame from edge to edge
    working_size: Size  # (H, W) they were computed at
    centred: bool  # whether the video's mean feature was subtracted
    unit_length: bool = True  # whether every cell was scaled to unit length

    @property
    def channels(self) -> int:
        return int(self.values.shape[1])


def prepare_features(
    features: FeatureGrid, centre: bool, unit_length: bool = True, empty: Empty = torch.empty
) -> PreparedFeatures:
    """Subtract the video's mean feature, then bring every cell to unit length; each if asked for.

    A part common to all cells distinguishes none of them, yet a residual would have to cancel it
    first; features after a ReLU have a large one. Unit length puts the residuals of all extractors
    on one scale.

    Args:
        features: Frozen features (T, C, h, w) of any floating dtype.
        centre: Whether to subtract the mean feature.
        unit_length: Whether to scale cells; cells of zeros stay zero.
        empty: Makes the result.

    Raises:
        ValueError: If the cells do not tile the frame from edge to edge.
    """
    check_tiling(features)
    mean = mean_feature(features.values) if centre else None
    values = empty(*features.shape, dtype=torch.float16)
    for part, prepared in zip(
        features.values.split(FRAMES_AT_ONCE), values.split(FRAMES_AT_ONCE), strict=True
    ):
        prepared.copy_(prepare_cells(part, mean, unit_length))
    return PreparedFeatures(values, features.working_size, centre, unit_length)


def mean_feature(frozen: Tensor) -> Tensor:
    """Average (T, C, h, w) over all frames and cells: (C, 1, 1), in single precision."""
    return frozen.mean(dim=(0, 2, 3), dtype=torch.float32)[:, None, None]


def prepare_cells(frozen: Tensor, mean: Tensor | None = None, unit_length: bool = True) -> Tensor:
    """Scale every cell of (T, C, h, w) to unit length, half precision, after subtracting ``mean`` (C, 1, 1).

    Cells of zeros stay zero. Without ``unit_length`` cells keep their length.
    """
    values = frozen.float()
    if mean is not None:
        values = torch.where(values.any(dim=1, keepdim=True), values - mean, 0)
    return (normalize(values, dim=1, eps=1e-6) if unit_length else values).half()


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
