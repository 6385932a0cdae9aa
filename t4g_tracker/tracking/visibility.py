"""When a tracked point counts as seen, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from t4g_tracker.limits import Limits, check_limits


@dataclass(frozen=True, kw_only=True)
class VisibilityConfig:
    """With flow, a point is seen where its uncertainty is small; without, where its match is good."""

    rule: Literal["round-trip", "anchors"] = "round-trip"  # of matching alone; anchors: published
    cycle_threshold_px: float = 8.0  # round-trip only: largest cycle error of a visible point, working pixels
    similarity_threshold: float = 0.5  # of matching alone: cosine similarity that a match must reach
    anchor_threshold: float = 0.7  # anchors only: cosine similarity from which a frame is an anchor
    largest_cost: float = 2.5  # with flow: largest uncertainty of a visible point, squared working pixels

    LIMITS: ClassVar[Limits] = {
        "cycle_threshold_px": (0.01, 10_000),
        "similarity_threshold": (-1, 0.999),
        "anchor_threshold": (-1, 0.999),
        "largest_cost": (0.001, 1e6),
    }

    def __post_init__(self) -> None:
        check_limits(self, "visibility")


def certainty(cost: Tensor, config: VisibilityConfig) -> Tensor:
    """Convert uncertainty (squared working pixels) to 0..1: one half at ``config.largest_cost``."""
    return 1 / (1 + cost / config.largest_cost)


def judge(
    similarity: Tensor, error_px: Tensor, config: VisibilityConfig, limit_px: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Decide which points are seen, and how confident that is.

    Confidence is the product of two terms, each one half at its threshold: a ramp that reaches
    1 at similarity 1, and 1 / (1 + (error / threshold)^2).

    Args:
        similarity: (N, T) cosine similarity of each match.
        error_px: (N, T) error of each match, working pixels.
        config: Thresholds.
        limit_px: (N,) largest error of a visible point, each point's own; None takes ``cycle_threshold_px``.

    Returns:
        Visibility (N, T) bool, and confidence (N, T) in 0..1, above one quarter wherever visible.
    """
    limit = error_px.new_tensor(config.cycle_threshold_px) if limit_px is None else limit_px[:, None]
    seen = (error_px <= limit) & (similarity >= config.similarity_threshold)
    above = (similarity - config.similarity_threshold) / (1 - config.similarity_threshold)
    alike = (0.5 + 0.5 * above).clamp(0, 1)
    consistent = 1 / (1 + (error_px / limit.clamp_min(1e-6)).square())
    return seen, alike * consistent
