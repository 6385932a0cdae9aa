"""Settings of the adaptation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from t4g_tracker.choices import AdapterKind, HeadKind, Precision
from t4g_tracker.errors import ConfigError
from t4g_tracker.limits import HUGE, Limits, check_limits


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses; 0 drops one."""

    huber: float = 0.0  # soft-argmax position, in units of half the frame: the published flow loss, near 1e-5
    cross_entropy: float = 1.0  # classification over the whole frame at stride 8
    window_cross_entropy: float = 1.0  # classification within the window at the adapter's own stride
    prior: float = 0.0  # norm and angle near the frozen features
    frozen_buddies: float = 0.0  # contrast of best buddies of frozen features, where flow does not reach
    refined_buddies: float = 0.0  # contrast of best buddies of adapted features, from late_start on
    cycle: float = 0.0  # position after matching there and back, from late_start on; in the units of huber

    LIMITS: ClassVar[Limits] = {
        "huber": (0, 1e6),
        "cross_entropy": (0, 1e6),
        "window_cross_entropy": (0, 1e6),
        "prior": (0, 1e6),
        "frozen_buddies": (0, 1e6),
        "refined_buddies": (0, 1e6),
        "cycle": (0, 1e6),
    }

    def __post_init__(self) -> None:
        check_limits(self, "adaptation.losses")
        if not self.huber + self.cross_entropy + self.window_cross_entropy:
            raise ConfigError(
                "adaptation.losses: huber, cross_entropy or window_cross_entropy must be above 0; "
                "to track with frozen features set adaptation.steps=0"
            )

    @property
    def between_frames(self) -> bool:
        """Whether a loss compares the frames of a step beyond the pairs sampled."""
        return bool(self.frozen_buddies or self.refined_buddies or self.cycle)


@dataclass(frozen=True, kw_only=True)
class AdaptationConfig:
    """How the adapter is optimised for one video."""

    steps: int = 1000  # optimisation steps; 0 tracks with the frozen features
    adapter: AdapterKind = "lite"  # delta-cnn is the published one
    width: int = 64  # lite only: channels at stride 8, a multiple of 16
    head: HeadKind = "softmax"  # of cost maps; cnn: two layers fitted along, after which temperature is 1
    centre: bool = True  # subtract the video's mean feature from the frozen features first
    components: int = 64  # principal components of the frozen features to adapt, after that; 0: all
    unit_length: bool = True  # scale every cell of the frozen features to unit length, after that
    learning_rate: float = 1e-3  # at its highest
    schedule: Literal["one-cycle", "exponential"] = "one-cycle"  # exponential: times 0.999 every 40 steps
    weight_decay: float = 0.01  # of AdamW; 0 makes it Adam
    clip_norm: float = 1.0  # a longer gradient, over all weights, is shortened to this; 0: none is
    sampling: Literal["stretch", "uniform"] = "stretch"  # of a step's frames: from a stretch, or all over
    frames_per_step: int = 2  # frames sampled for a step; uniform: for each half, foreground and background
    pairs_per_frame: int = 256  # pairs to find in each frame of a step; uniform: on average
    window: float = 0.7  # stretch only: share of each side of frames that a step sees, 192 px or more; 1: all
    foreground: Literal["given", "auto"] = "given"  # auto: without --foreground, masks from the features
    held_out: float = 0.05  # share of the frame whose trajectories only measure progress
    snapshots: tuple[int, ...] = (100, 500, 1000, 2000, 5000)  # steps whose weights are saved for pictures
    evaluate_every: int = 100  # steps between measurements on held-out trajectories
    patience: int = 0  # such measurements without an improvement after which steps end; 0: never
    precision: Precision = "auto"  # auto: bfloat16 where the device is fast at it
    late_start: float = 0.5  # share of the steps after which the losses refined_buddies and cycle begin
    losses: LossConfig = field(default_factory=LossConfig)

    LIMITS: ClassVar[Limits] = {
        "steps": (0, HUGE),
        "width": (16, 512),
        "components": (0, HUGE),
        "learning_rate": (1e-9, 10),
        "weight_decay": (0, 10),
        "clip_norm": (0, 1e6),
        "frames_per_step": (2, 1000),
        "pairs_per_frame": (1, 10_000),
        "window": (0.1, 1),
        "held_out": (0, 0.5),
        "snapshots": (1, HUGE),
        "evaluate_every": (1, HUGE),
        "patience": (0, HUGE),
        "late_start": (0, 0.999),
    }

    def __post_init__(self) -> None:
        check_limits(self, "adaptation")
        if self.width % 16:
            raise ConfigError(f"adaptation.width must be 16, 32, 48, ..., got {self.width}")

    @property
    def samples_pairs_alone(self) -> bool:
        """Whether a step is as many pairs in each frame and nothing else; only then does ``window`` act."""
        return self.sampling == "stretch" and not self.losses.between_frames

    def losses_at(self, step: int) -> LossConfig:
        """The weights of the losses after ``step`` steps; of those that start late, 0 until then."""
        if step >= self.late_start * self.steps:
            return self.losses
        return replace(self.losses, refined_buddies=0.0, cycle=0.0)
