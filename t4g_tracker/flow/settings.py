"""Settings of optical flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from t4g_tracker.choices import FlowMethod
from t4g_tracker.coordinates import Size
from t4g_tracker.limits import Limits, check_limits


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Which optical flow points are carried along."""

    method: FlowMethod = "auto"  # auto: published RAFT if PyTorch's cache has it, refined, else dis
    pixels: int = 360 * 640  # larger frames are shrunk to this many pixels, more than the working size has
    weights: str = ""  # RAFT only: path to a state dict; empty takes the published or bundled weights
    updates: int = 12  # RAFT only: recurrent updates a pair
    raft_scale: float = 1.0  # RAFT only: share of the flow's size that it runs at; its flow is enlarged
    # RAFT only: dis refines its flow with DIS; best starts DIS from that too, where it aligns the frames best
    refine: Literal["none", "dis", "best"] = "none"
    finest_scale: int = 0  # DIS only, also where it refines: 0 ends at full size, 1 (its preset) at half
    patch_stride: int = 3  # DIS only, also where it refines: pixels between the patches of 8x8 it compares
    # DIS only, also with refine=best: share of the size at which it searches, before it refines at full size
    search_scale: float = 0.5
    # DIS only, also with refine=best: flow by way of a frame in between is a start too, where it fits better
    compose: bool = True
    # DIS only, also with refine=best: no motion is a start too, between neighbouring frames
    still: bool = True

    LIMITS: ClassVar[Limits] = {
        "patch_stride": (1, 8),
        "pixels": (128 * 128, 8192 * 8192),
        "updates": (1, 1000),
        "raft_scale": (0.1, 1),
        "finest_scale": (0, 3),
        "search_scale": (0.1, 1),
    }

    def __post_init__(self) -> None:
        check_limits(self, "flow")


def flow_size(original: Size, config: FlowConfig) -> Size:
    """Choose the (H, W) that flow is computed at: the original, or smaller at the same aspect."""
    shrink = min(1.0, (config.pixels / (original[0] * original[1])) ** 0.5)
    return max(16, round(original[0] * shrink)), max(16, round(original[1] * shrink))
