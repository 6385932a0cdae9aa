"""Bringing a feature grid to cells that tile the frame from edge to edge."""

from __future__ import annotations

import torch
from torch.nn.functional import grid_sample

from t4g_tracker.coordinates import cells_to_pixels, centred_offset, pixels_to_cells, to_sample_grid
from t4g_tracker.datatypes import FeatureGrid


def tiled(grid: FeatureGrid, stride_px: float | None = None) -> FeatureGrid:
    """Interpolate a grid bilinearly at the centres of cells that tile the frame.

    Cells beyond the outermost ones of ``grid`` take their values. A grid that tiles the frame already is
    returned unchanged.

    Args:
        grid: Of any stride and offset.
        stride_px: Of the tiles, working pixels; it divides both sides of the frame. None: that of ``grid``.

    Returns:
        (T, C, H / stride, W / stride), of the same dtype.
    """
    stride = grid.stride_px if stride_px is None else stride_px
    height, width = (round(side / stride) for side in grid.working_size)
    offset = centred_offset(stride)
    if (stride, offset, (height, width)) == (grid.stride_px, grid.offset_px, grid.shape[2:]):
        return grid
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = cells_to_pixels(torch.stack([columns, rows], -1).float(), stride, offset)
    cells = pixels_to_cells(centres, grid.stride_px, grid.offset_px)
    places = to_sample_grid(cells, (grid.shape[2], grid.shape[3]))[None].to(grid.values.device)
    values = [
        grid_sample(frame[None].float(), places, padding_mode="border", align_corners=False)
        for frame in grid.values
    ]
    return FeatureGrid(torch.cat(values).to(grid.values.dtype), stride, offset, grid.working_size)
