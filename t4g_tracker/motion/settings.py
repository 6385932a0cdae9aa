"""Settings of motion: over which gaps flow is computed, and how trajectories are made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from t4g_tracker.errors import ConfigError
from t4g_tracker.limits import Limits, check_limits


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Which frames flow is computed between, and how uncertainty grows along it."""

    gaps: tuple[int, ...] = (1, 2, 4, 8, 16)  # frames from one of a pair to the other; 1 must be among them
    step_cost: float = 0.01  # uncertainty that each flow adds besides its cycle error, squared working pixels
    jump_cost: float = 1.0  # added in choosing, to what leaves flow between neighbours by jump_px or more
    jump_px: float = 6.0  # working pixels; what leaves it by less costs less, by the square
    from_query: bool = True  # query points also follow flow straight from their query frame
    reach: int = 48  # frames before and after its query frame that such flow spans at most
    # it leads to every frame up to this far away, to every second up to twice as far, then to every 4th ...
    dense_reach: int = 8

    LIMITS: ClassVar[Limits] = {
        "gaps": (1, 1_000_000),
        "step_cost": (0, 1000),
        "jump_cost": (0, 1000),
        "jump_px": (0.01, 10_000),
        "reach": (1, 1_000_000),
        "dense_reach": (1, 1_000_000),
    }

    def __post_init__(self) -> None:
        check_limits(self, "motion")
        if 1 not in self.gaps:
            raise ConfigError(f"motion.gaps must hold 1, neighbouring frames, got {list(self.gaps)}")
        if len(set(self.gaps)) < len(self.gaps):
            raise ConfigError(f"motion.gaps must hold each number once, got {list(self.gaps)}")


@dataclass(frozen=True, kw_only=True)
class TrajectoriesConfig:
    """How flow becomes training targets."""

    rule: Literal["gaps", "chained"] = "gaps"  # gaps: the least uncertain flow; chained: the published rule
    spacing_px: int = 4  # at 320x576: where trajectories start, the side of a tile that gets one
    start_every: int = 5  # gaps only: frames between those in which trajectories start
    reach: int = 48  # gaps only: frames before and after its start that a trajectory spans at most
    uncertainty_px: float = 1.3  # gaps only: at 320x576, largest uncertainty of a position that is kept
    cycle_threshold_px: float = 1.5  # chained only: at 320x576, a step with a larger cycle error ends it
    direct_threshold_px: float = 2.0  # chained only: at 320x576, direct flow may differ by this much
    direct_gaps: tuple[int, ...] = (4, 8, 16)  # chained only: gaps of direct flow, all in motion.gaps
    minimum_frames: int = 3  # trajectories with fewer positions are dropped

    LIMITS: ClassVar[Limits] = {
        "spacing_px": (1, 1000),
        "start_every": (1, 1_000_000),
        "reach": (1, 1_000_000),
        "uncertainty_px": (0.001, 1000),
        "cycle_threshold_px": (0.001, 1000),
        "direct_threshold_px": (0.001, 1000),
        "direct_gaps": (2, 1_000_000),
        "minimum_frames": (2, 1_000_000),
    }

    def __post_init__(self) -> None:
        check_limits(self, "trajectories")


def effective_motion(config: MotionConfig, rule: str) -> MotionConfig:
    """The settings that trajectories of this rule depend on beside flow; all others at their defaults."""
    if rule == "chained":
        return MotionConfig()
    return MotionConfig(step_cost=config.step_cost, jump_cost=config.jump_cost, jump_px=config.jump_px)


def effective_trajectories(config: TrajectoriesConfig) -> TrajectoriesConfig:
    """Reset settings that the rule does not use to their defaults."""
    plain = TrajectoriesConfig(
        rule=config.rule, spacing_px=config.spacing_px, minimum_frames=config.minimum_frames
    )
    if config.rule == "chained":
        names = ("cycle_threshold_px", "direct_threshold_px", "direct_gaps")
    else:
        names = ("start_every", "reach", "uncertainty_px")
    return replace(plain, **{name: getattr(config, name) for name in names})
