"""The correspondence half of the objective: a point's feature must match the point in other frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, centred_offset, pixels_to_cells
from t4g_tracker.matching.cost_maps import sample_vectors
from t4g_tracker.matching.losses import cell_cross_entropy
from t4g_tracker.matching.similarity import frame_similarity
from t4g_tracker.training.track4gen.dataset import ClipBatch


@dataclass(frozen=True)
class Pairs:
    """Points visible in two frames of a batch, the same number for every target frame.

    Frames are numbered through the batch: frame f of clip b is ``b * F + f``.
    """

    source: Tensor  # (B * F * P,) frame whose feature is the query
    source_xy: Tensor  # (B * F * P, 2) pixels
    target_xy: Tensor  # (B * F * P, 2) pixels; pairs are grouped by target frame, in order
    known: Tensor  # (B * F * P,) bool; false for padding in frames that show too few points


def sample_pairs(batch: ClipBatch, per_frame: int) -> Pairs:
    """Sample ``per_frame`` points of every frame, each with another frame in which it is visible too."""
    clips, points, frames = batch.visibility.shape
    seen = batch.visibility.float()
    shared = seen.sum(2, keepdim=True) > 1
    weight = (seen * shared).transpose(1, 2).reshape(clips * frames, points)
    known = (weight.sum(1) > 0)[:, None].expand(-1, per_frame)
    point = torch.multinomial(weight + 1e-9, per_frame, replacement=True)  # (B * F, P)
    target = torch.arange(frames, device=point.device).repeat(clips)[:, None].expand_as(point)
    clip = torch.arange(clips, device=point.device).repeat_interleave(frames)[:, None].expand_as(point)
    others = seen[clip, point].scatter(2, target[..., None], 0.0)
    source = torch.multinomial((others + 1e-9).flatten(0, 1), 1).view_as(point)
    known = known & others.gather(2, source[..., None]).squeeze(2).bool()
    return Pairs(
        (clip * frames + source).flatten(),
        batch.xy[clip, point, source].flatten(0, 1),
        batch.xy[clip, point, target].flatten(0, 1),
        known.flatten(),
    )


def correspondence_loss(features: Tensor, pairs: Pairs, size: Size, temperature: float) -> Tensor:
    """Compute the cross-entropy of matching each point, over all cells of its target frame.

    Args:
        features: (B * F, C, h, w), with cells that tile frames of ``size``.
        pairs: B * F * P pairs.
        size: (H, W) pixels.
        temperature: Temperature of the softmax over cosine similarities.

    Returns:
        (B * F * P,) loss in nats; 0 for unknown pairs.
    """
    frames, channels, height, width = features.shape
    stride_px = size[0] / height
    offset_px = centred_offset(stride_px)
    source = pixels_to_cells(pairs.source_xy, stride_px, offset_px)
    target = pixels_to_cells(pairs.target_xy, stride_px, offset_px)
    with torch.autocast(features.device.type, enabled=False):  # the softmax needs more than bfloat16's digits
        cells = features.float().permute(0, 2, 3, 1).contiguous()
        queries = sample_vectors(cells, pairs.source, source).view(frames, -1, channels)
        similarity = frame_similarity(cells.flatten(1, 2), queries).flatten(0, 1)
        return pairs.known * cell_cross_entropy(similarity, target, (height, width), temperature)
