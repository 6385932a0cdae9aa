"""When a tracked point counts as seen, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from t4g_tracker.limits import Limits, check_limits


@dataclass(frozen=True, kw_only=True)
class VisibilityConfig:
    """A point is seen where its match looks alike and its cycle error is small."""

    cycle_threshold_px: float = 8.0  # largest cycle error of a visible point's match, working pixels
    similarity_threshold: float = 0.5  # cosine similarity that it must reach
    largest_cost: float = 3.6  # largest uncertainty of a visible point, squared working pixels

    LIMITS: ClassVar[Limits] = {
        "cycle_threshold_px": (0.01, 10_000),
        "similarity_threshold": (-1, 0.999),
        "largest_cost": (0.001, 1e6),
    }

    def __post_init__(self) -> None:
        check_limits(self, "visibility")


def certainty(cost: Tensor, config: VisibilityConfig) -> Tensor:
    """Convert uncertainty (squared working pixels) to 0..1: one half at ``config.largest_cost``."""
    return 1 / (1 + cost / config.largest_cost)


def judge(
    similarity: Tensor, cycle_error_px: Tensor, cost: Tensor | None, config: VisibilityConfig
) -> tuple[Tensor, Tensor]:
    """Decide which points are seen, and how confident that is.

    Confidence is the product of two terms, each one half at its threshold: a ramp that reaches
    1 at similarity 1, and 1 / (1 + (cycle error / threshold)^2).

    Args:
        similarity: (N, T) cosine similarity of each match.
        cycle_error_px: (N, T) cycle error of each match, working pixels.
        cost: (N, T) uncertainty where flow was followed, squared working pixels; None where it was not.
        config: Thresholds.

    Returns:
        Visibility (N, T) bool, and confidence (N, T) in 0..1, above one quarter wherever visible.
    """
    seen = (cycle_error_px <= config.cycle_threshold_px) & (similarity >= config.similarity_threshold)
    if cost is not None:
        seen = cost <= config.largest_cost
    above = (similarity - config.similarity_threshold) / (1 - config.similarity_threshold)
    alike = (0.5 + 0.5 * above).clamp(0, 1)
    consistent = 1 / (1 + (cycle_error_px / config.cycle_threshold_px).square())
    return seen, alike * consistent
