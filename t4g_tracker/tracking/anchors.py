"""Visibility by anchors: frames where a point is surely seen say where it should be, from every other frame.

Source: the occlusion rule of DINO-Tracker, arXiv:2403.14548, and its released code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Sample = Callable[[Tensor, Tensor], Tensor]  # frames (P,), positions (P, 2): unit vectors (P, C)
Find = Callable[[int, Tensor], Tensor]  # frame, unit vectors (P, C): positions (P, 2)

ERRORS_AT_ONCE = 2**20  # distances held in memory together: of some points, in all frames, by all anchors


def anchor_errors(
    xy: Tensor, similarity: Tensor, threshold: float, sample: Sample, find: Find
) -> tuple[Tensor, Tensor]:
    """Measure how far from a track's anchors its position in each frame would be found.

    The anchors of a point are the frames where it looks like its query point. Its position in any frame is
    matched in all its anchors, and the median over these of the distance to the track is the frame's error.
    The largest error of an anchor itself is what this track's errors are compared with.

    Args:
        xy: (N, T, 2) positions of N points, in any unit.
        similarity: (N, T) cosine to the query point.
        threshold: Similarity from which a frame is an anchor; the query frame must be one.
        sample: Samples features, at positions in that unit.
        find: Matches features in a frame, which returns positions in that unit.

    Returns:
        (N, T) errors, of an even number of anchors the lower middle one, and (N,) the largest error of an
        anchor, in that unit.
    """
    frames = similarity.shape[1]
    anchors = similarity >= threshold
    some = max(1, ERRORS_AT_ONCE // frames**2)
    parts = zip(xy.split(some), anchors.split(some), strict=True)
    error = torch.cat([_median_errors(positions, marked, sample, find) for positions, marked in parts])
    return error, error.masked_fill(~anchors, 0).amax(1)


def _median_errors(xy: Tensor, anchors: Tensor, sample: Sample, find: Find) -> Tensor:
    """Median over the anchors (N, T) of every position's error in each: (N, T)."""
    count, frames = anchors.shape
    errors = xy.new_full((count, frames, frames), torch.nan)  # by point, frame and anchor
    every_frame = torch.arange(frames, device=xy.device)
    for anchor in range(frames):
        which = anchors[:, anchor].nonzero().squeeze(1)
        if len(which):
            found = find(anchor, sample(every_frame.repeat(len(which)), xy[which].flatten(0, 1)))
            away = found.view(-1, frames, 2) - xy[which, anchor, None]
            errors[which, :, anchor] = away.norm(dim=-1)
    return errors.nanmedian(2).values
