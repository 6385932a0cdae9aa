"""The correspondence half of the objective: a point's feature in one frame must find it in another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from t4g_tracker.coordinates import Size, centred_offset, pixels_to_cells
from t4g_tracker.matching.cost_maps import sample_vectors
from t4g_tracker.matching.losses import cell_cross_entropy
from t4g_tracker.training.track4gen.dataset import ClipBatch


@dataclass(frozen=True)
class Pairs:
    """Points seen in two frames of a batch, in equal number for every target frame.

    Frames are numbered through the batch: frame f of clip b is ``b * F + f``.
    """

    source: Tensor  # (B * F * P,) frame that the point is taken from
    source_xy: Tensor  # (B * F * P, 2) pixels
    target_xy: Tensor  # (B * F * P, 2) pixels; pairs are grouped by target frame, in order
    known: Tensor  # (B * F * P,) bool; false fills up frames with too few points


def draw_pairs(batch: ClipBatch, per_frame: int) -> Pairs:
    """Draw ``per_frame`` points of every frame, each with another frame that sees it too."""
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
    """Cross-entropy of where matching finds each point, over all cells of its target frame.

    Args:
        features: (B * F, C, h, w), cells tiling frames of ``size``.
        pairs: B * F * P pairs.
        size: (H, W) pixels.
        temperature: Of the softmax over cosine similarities.

    Returns:
        (B * F * P,) loss in nats; 0 for pairs that are not known.
    """
    frames, channels, height, width = features.shape
    stride_px = size[0] / height
    offset_px = centred_offset(stride_px)
    with torch.autocast(features.device.type, enabled=False):  # bfloat16 has 3 digits, the softmax needs more
        features = features.float()
        queries = sample_vectors(
            features.permute(0, 2, 3, 1), pairs.source, pixels_to_cells(pairs.source_xy, stride_px, offset_px)
        )
        images = normalize(features, dim=1, eps=1e-6).flatten(2)
        similarity = torch.bmm(queries.view(frames, -1, channels), images).flatten(0, 1)
        target = pixels_to_cells(pairs.target_xy, stride_px, offset_px)
        return pairs.known * cell_cross_entropy(similarity, target, (height, width), temperature)
