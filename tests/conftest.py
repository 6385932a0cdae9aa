"""What the tests share: a clip whose motion is known in closed form, and features and flow that fit it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from t4g_tracker import hardware
from t4g_tracker.coordinates import centred_offset
from t4g_tracker.datatypes import FeatureGrid, FlowFields, QueryPoints, Trajectories, Video
from t4g_tracker.motion.fields import pairs_over_gaps
from t4g_tracker.motion.settings import MotionConfig, TrajectoriesConfig
from t4g_tracker.motion.trajectories import make_trajectories


def waves(xy: Tensor, channels: int, shortest_px: float, longest_px: float, seed: int) -> Tensor:
    """(..., channels) sums of plane waves at positions (..., 2): a texture without end or repetition."""
    generator = torch.Generator().manual_seed(seed)
    count = 48
    length = torch.empty(count).uniform_(shortest_px, longest_px, generator=generator)
    angle = torch.empty(count).uniform_(0, 2 * math.pi, generator=generator)
    phase = torch.empty(count, channels).uniform_(0, 2 * math.pi, generator=generator)
    wave = torch.stack([angle.cos(), angle.sin()]) * (2 * math.pi / length)
    return ((xy @ wave)[..., None] + phase).sin().sum(-2) / count**0.5


def positions(height: int, width: int, stride_px: float = 1.0, offset_px: float = 0.0) -> Tensor:
    """(height, width, 2) pixel positions (x, y) of every cell of a grid."""
    x, y = torch.arange(width) * stride_px + offset_px, torch.arange(height) * stride_px + offset_px
    return torch.stack(torch.meshgrid(x.float(), y.float(), indexing="xy"), -1)


@dataclass(frozen=True)
class SlidingClip:
    """A texture that slides by ``velocity`` pixels a frame, and perhaps a bar that passes before it.

    The bar is as high as the frame, has a texture of its own, and slides to the right.
    """

    frame_count: int
    size: tuple[int, int]
    velocity: tuple[float, float]
    bar_px: float = 0.0  # width; 0 for no bar
    bar_left_px: float = 0.0  # its left edge in frame 0
    bar_speed_px: float = 0.0

    def covered(self, xy: Tensor, frame: int) -> Tensor:
        """Which positions (..., 2) of a frame the bar hides."""
        along = xy[..., 0] - self.bar_left_px - self.bar_speed_px * frame
        return (along >= 0) & (along < self.bar_px)

    def move(self, xy: Tensor, frames: Tensor) -> Tensor:
        """Where points (P, 2) of the texture have gone after ``frames`` (P,) frames."""
        return xy + frames[:, None] * torch.tensor(self.velocity)

    def follow(self, queries: QueryPoints) -> tuple[Tensor, Tensor]:
        """True tracks (N, T, 2) and visibility (N, T), apart from the frame's border."""
        times = torch.arange(self.frame_count)
        xy = torch.stack([self.move(queries.xy, t - queries.frame) for t in times], 1)
        return xy, torch.stack([~self.covered(xy[:, t], int(t)) for t in times], 1)

    def _shown(self, grid: Tensor, frame: int, channels: int, shortest: float, longest: float) -> Tensor:
        """(h, w, channels) of what lies at the positions ``grid`` (h, w, 2) in a frame."""
        behind = waves(grid - frame * torch.tensor(self.velocity), channels, shortest, longest, seed=1)
        if not self.bar_px:
            return behind
        shift = torch.tensor([self.bar_speed_px * frame, 0.0])
        bar = waves(grid - shift, channels, shortest, longest, seed=2)
        return torch.where(self.covered(grid, frame)[..., None], bar, behind)

    @property
    def frames(self) -> Tensor:
        """(T, 3, H, W) uint8."""
        grid = positions(*self.size)
        shown = torch.stack([self._shown(grid, t, 3, 7.0, 40.0) for t in range(self.frame_count)])
        return (shown * 45 + 128).clamp(0, 255).round().to(torch.uint8).permute(0, 3, 1, 2).contiguous()

    @property
    def video(self) -> Video:
        return Video(np.ascontiguousarray(self.frames.permute(0, 2, 3, 1)), 24.0, "sliding", "sliding.mp4")

    def features(self, stride_px: int = 4, channels: int = 32) -> FeatureGrid:
        """A perfect extractor's grid: every cell says which point of the texture it shows."""
        height, width = (side // stride_px for side in self.size)
        grid = positions(height, width, stride_px, centred_offset(stride_px))
        values = [self._shown(grid, t, channels, 20.0, 120.0) for t in range(self.frame_count)]
        return FeatureGrid(
            torch.stack(values).permute(0, 3, 1, 2), stride_px, centred_offset(stride_px), self.size
        )

    def flow_over(self, *gaps: int) -> FlowFields:
        """The exact flow of whatever is shown, over several gaps."""
        grid = positions(*self.size)
        velocity, bar_velocity = torch.tensor(self.velocity), torch.tensor([self.bar_speed_px, 0.0])
        pairs = pairs_over_gaps(self.frame_count, gaps)

        def moves(begin: int, end: int) -> Tensor:
            each = torch.where(self.covered(grid, begin)[..., None], bar_velocity, velocity)
            return ((end - begin) * each).permute(2, 0, 1).half()

        there = torch.stack([moves(i, j) for i, j in pairs])
        return FlowFields(torch.tensor(pairs), there, torch.stack([moves(j, i) for i, j in pairs]))

    @property
    def flow(self) -> FlowFields:
        """The exact flow between neighbouring frames."""
        return self.flow_over(1)

    @property
    def trajectories(self) -> Trajectories:
        """By the published rule, which has none of its own doubts where flow is exact."""
        return make_trajectories(
            self.flow, self.frame_count, TrajectoriesConfig(rule="chained"), self.size, MotionConfig()
        )


@pytest.fixture(scope="session")
def slide() -> Callable[..., SlidingClip]:
    """Makes a ``SlidingClip`` of the size and motion that a test wants."""

    def make(
        frame_count: int = 8,
        size: tuple[int, int] = (64, 128),
        velocity: tuple[float, float] = (2.5, -1.25),
        **bar: float,
    ) -> SlidingClip:
        return SlidingClip(frame_count, size, velocity, **bar)

    return make


@pytest.fixture(scope="session")
def ask() -> Callable[..., QueryPoints]:
    """Makes query points from rows of (frame, x, y)."""

    def make(*rows: tuple[float, float, float]) -> QueryPoints:
        table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 3)
        return QueryPoints(table[:, 0].long(), table[:, 1:], tuple(f"p{index}" for index in range(len(rows))))

    return make


TINY = (
    "features.extractor=patch",
    "working_size.height=64",
    "working_size.width=128",
    "adaptation.steps=20",
    "adaptation.width=16",
    "adaptation.pairs_per_frame=32",
    "adaptation.snapshots=[10]",
    "adaptation.precision=float32",
)
PLAIN_OUTPUTS = ("outputs.overlay=false", "outputs.progress=false")


@pytest.fixture(scope="session")
def tiny_settings() -> tuple[str, ...]:
    """What to give ``--set`` so that a run takes a second or two and draws no pictures."""
    return TINY + PLAIN_OUTPUTS


@pytest.fixture(scope="session")
def save_frames() -> Callable[[SlidingClip, Path], Path]:
    """Writes a clip as a folder of PNG frames, which keeps every pixel."""

    def save(clip: SlidingClip, folder: Path) -> Path:
        folder.mkdir(parents=True)
        for index, frame in enumerate(clip.video.frames):
            Image.fromarray(frame).save(folder / f"{index:05d}.png")
        return folder

    return save


@pytest.fixture
def cpu_has_bfloat16(monkeypatch):
    """Half precision on the CPU is bfloat16, whatever this machine's processor is good at."""
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: True)
