"""Losses that only the adaptation uses: pure functions, one value per point or cell.

The loop weights and adds them. Losses on cost maps, which Track4Gen's training shares, are in
``t4g_tracker/matching/losses.py``. Source: DINO-Tracker, arXiv:2403.14548.
"""

from __future__ import annotations

from torch import Tensor


def prior(adapted: Tensor, frozen: Tensor) -> Tensor:
    """Measure how far adapted features have left the frozen ones, in direction and length.

    Args:
        adapted: (B, C, h, w).
        frozen: (B, C, h, w) aligned frozen features.

    Returns:
        (B, h, w): (1 - cosine) plus |1 - ratio of norms|, zero when nothing changed.
    """
    adapted, frozen = adapted.float(), frozen.float()
    adapted_norm = adapted.norm(dim=1).clamp_min(1e-6)
    frozen_norm = frozen.norm(dim=1).clamp_min(1e-6)
    cosine = (adapted * frozen).sum(1) / (adapted_norm * frozen_norm)
    return (1 - cosine) + (1 - adapted_norm / frozen_norm).abs()
