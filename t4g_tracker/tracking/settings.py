"""Settings of tracking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from t4g_tracker.errors import ConfigError
from t4g_tracker.limits import Limits, check_limits


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How a query point is found in a frame."""

    motion: bool = True  # join matches with flow, whichever is less uncertain; false: each frame's best match
    candidates: int = 3  # peaks of a cost map that join
    match_cost: float = 1.8  # uncertainty of a match that looks alike and leads back, squared working pixels
    cycle_share: float = 0.2  # share of its squared cycle error that is added
    unlike_cost: float = 9.0  # added where its similarity is 1 below alike, in proportion
    alike: float = 0.8  # cosine similarity from which a match costs nothing more
    # added in choosing, where similarity is 1 below that of the best match, in proportion
    appearance_cost: float = 5.0
    trust_from: float = 0.6  # share of held-out trajectories that matching finds, from which matches count
    trust_full: float = 0.8  # such a share from which they count in full
    memory: float = 3.0  # weight of features of sure frames in a second round of matching; 0: one round
    sure_cost: float = 1.0  # uncertainty up to which a frame counts as sure, squared working pixels
    subpixel: bool = True  # refine positions by Lucas-Kanade on the original frames
    subpixel_reach_px: float = 6.0  # longest refinement, pixels at 480p; smaller videos: their own pixels
    subpixel_window_px: int = 15  # side of the square it compares, at every pyramid level
    points_at_once: int = 512  # cost maps held in memory together

    LIMITS: ClassVar[Limits] = {
        "candidates": (1, 100),
        "match_cost": (0, 10_000),
        "cycle_share": (0, 1000),
        "unlike_cost": (0, 10_000),
        "alike": (-1, 1),
        "appearance_cost": (0, 10_000),
        "memory": (0, 1000),
        "sure_cost": (0, 10_000),
        "trust_from": (0, 1),
        "trust_full": (0, 1),
        "subpixel_reach_px": (0, 1000),
        "subpixel_window_px": (3, 255),
        "points_at_once": (1, 1_000_000),
    }

    def __post_init__(self) -> None:
        check_limits(self, "tracking")
        if self.trust_from >= self.trust_full:
            raise ConfigError(
                f"tracking.trust_from must be below tracking.trust_full, {self.trust_full}, "
                f"got {self.trust_from}"
            )

    def trust(self, found: float | None) -> float:
        """How far matches count, 0..1, if matching finds the share ``found`` of held-out trajectories.

        None, if none was held out, gives one half.
        """
        if found is None:
            return 0.5
        return min(1.0, max(0.0, (found - self.trust_from) / (self.trust_full - self.trust_from)))
