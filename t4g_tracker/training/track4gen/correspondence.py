"""The correspondence half of the objective: a point's feature must match the point in other frames."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import softplus

from t4g_tracker.coordinates import Size, centred_offset, pixels_to_cells
from t4g_tracker.matching.cost_maps import sample_vectors, soft_argmax
from t4g_tracker.matching.losses import cell_cross_entropy, huber
from t4g_tracker.matching.similarity import frame_similarity
from t4g_tracker.training.track4gen.dataset import ClipBatch


@dataclass(frozen=True)
class Pairs:
    """Points visible in one frame of a batch, and their places in another: P for every target frame.

    Frames are numbered through the batch: frame f of clip b is ``b * F + f``.
    """

    source: Tensor  # (B * F * P,) frame whose feature is the query
    source_xy: Tensor  # (B * F * P, 2) pixels
    target_xy: Tensor  # (B * F * P, 2) pixels; pairs are grouped by target frame, in order
    hidden: Tensor  # (B * F * P,) bool; true where the target frame does not show the point
    known: Tensor  # (B * F * P,) bool; false for padding in frames that have too few points


def sample_pairs(batch: ClipBatch, per_frame: int, hidden: int = 0) -> Pairs:
    """Sample points of every frame, each with another frame in which it is visible.

    Args:
        batch: Clips with tracks.
        per_frame: P pairs for each target frame.
        hidden: How many of these, the last ones, are of points that the target frame does not show, since
            something hides them or they are outside. The others are visible in it.
    """
    seen = batch.visibility.float()
    elsewhere = seen.sum(2, keepdim=True) - seen > 0  # visible in some other frame
    visible = _sample(batch, seen * elsewhere, per_frame - hidden, hidden=False)
    if not hidden:
        return visible
    unseen = _sample(batch, (1 - seen) * elsewhere, hidden, hidden=True)
    frames = batch.visibility.shape[0] * batch.visibility.shape[2]
    joined = (
        torch.cat([part.view(frames, -1, *part.shape[1:]) for part in both], 1).flatten(0, 1)
        for both in ((getattr(visible, entry.name), getattr(unseen, entry.name)) for entry in fields(Pairs))
    )
    return Pairs(*joined)


def _sample(batch: ClipBatch, weight: Tensor, per_frame: int, *, hidden: bool) -> Pairs:
    """Sample ``per_frame`` points of every frame, by weights (B, N, F), each with a source frame."""
    clips, points, frames = batch.visibility.shape
    weight = weight.transpose(1, 2).reshape(clips * frames, points)
    known = (weight.sum(1) > 0)[:, None].expand(-1, per_frame)
    point = torch.multinomial(weight + 1e-9, per_frame, replacement=True)  # (B * F, P)
    target = torch.arange(frames, device=point.device).repeat(clips)[:, None].expand_as(point)
    clip = torch.arange(clips, device=point.device).repeat_interleave(frames)[:, None].expand_as(point)
    others = batch.visibility.float()[clip, point].scatter(2, target[..., None], 0.0)
    source = torch.multinomial((others + 1e-9).flatten(0, 1), 1).view_as(point)
    known = known & others.gather(2, source[..., None]).squeeze(2).bool()
    return Pairs(
        (clip * frames + source).flatten(),
        batch.xy[clip, point, source].flatten(0, 1),
        batch.xy[clip, point, target].flatten(0, 1),
        torch.full_like(known, hidden).flatten(),
        known.flatten(),
    )


def correspondence_loss(
    features: Tensor, pairs: Pairs, size: Size, temperature: float, not_here: Tensor | None = None
) -> Tensor:
    """Compute the cross-entropy of matching each point, over all cells of its target frame.

    With ``not_here`` there is one class more, that the frame does not show the point. It is the right
    one for hidden points, and the others may not choose it.

    Args:
        features: (B * F, C, h, w), with cells that tile frames of ``size``.
        pairs: B * F * P pairs.
        size: (H, W) pixels.
        temperature: Temperature of the softmax over cosine similarities.
        not_here: (1,) what stands for a similarity in that class; needed if any pair is hidden.

    Returns:
        (B * F * P,) loss in nats; 0 for unknown pairs.
    """
    with torch.autocast(features.device.type, enabled=False):  # the softmax needs more than bfloat16's digits
        similarity, target = _similarity(features, pairs, size)
        grid = (features.shape[2], features.shape[3])
        loss = cell_cross_entropy(similarity, target, grid, temperature)
        if not_here is None:
            return pairs.known * loss
        # log-odds of "not here" against all cells together
        odds = not_here.float() / temperature - torch.logsumexp(similarity / temperature, 1)
        return pairs.known * torch.where(pairs.hidden, softplus(-odds), loss + softplus(odds))


def position_loss(features: Tensor, pairs: Pairs, size: Size, temperature: float, radius_px: float) -> Tensor:
    """Compute the Huber distance of where matching finds each point to where it is, on -1..1.

    Args:
        features, pairs, size, temperature: As in ``correspondence_loss``; no pair is hidden.
        radius_px: Reach of the soft-argmax around the best cell, pixels.

    Returns:
        (B * F * P,) loss; 0 for unknown pairs.
    """
    height, width = features.shape[2:]
    with torch.autocast(features.device.type, enabled=False):
        similarity, target = _similarity(features, pairs, size)
        cost = similarity.view(-1, height, width)
        found, _ = soft_argmax(cost, radius_px * height / size[0], temperature)
        return pairs.known * huber(found, target, (height, width))


def _similarity(features: Tensor, pairs: Pairs, size: Size) -> tuple[Tensor, Tensor]:
    """Compute the similarity (B * F * P, h * w) of points to their target frames' cells, and their place."""
    frames, channels, height, _ = features.shape
    stride_px = size[0] / height
    offset_px = centred_offset(stride_px)
    source = pixels_to_cells(pairs.source_xy, stride_px, offset_px)
    target = pixels_to_cells(pairs.target_xy, stride_px, offset_px)
    cells = features.float().permute(0, 2, 3, 1).contiguous()
    queries = sample_vectors(cells, pairs.source, source).view(frames, -1, channels)
    return frame_similarity(cells.flatten(1, 2), queries).flatten(0, 1), target
