"""Values that travel together between the stages, as frozen dataclasses.

Positions are (x, y) in pixels, whole numbers at pixel centres. Unless a field says
otherwise they are pixels of the original video. T frames, N query points, C channels,
H and W the grid at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Video:
    """Every frame of a clip at its original size."""

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    fps: float  # frames a second, for files that are written; 24 for a folder of frames
    name: str  # file stem or folder name; names the output folder
    source: str  # path as the user gave it, for error messages
    times: np.ndarray | None = None  # (T,) float64 seconds since the first frame; None: evenly at fps
    pixel_aspect: float = 1.0  # width of a pixel over its height, as a player shows it
    start_frame: int = 0  # the number that the user's files and points give to the first frame
    first_file_number: int | None = None  # in the name of the first file of a folder of frames, if it has one

    @property
    def frame_count(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in original pixels."""
        return int(self.frames.shape[1]), int(self.frames.shape[2])


@dataclass(frozen=True)
class QueryPoints:
    """The points to track: where each one is in its query frame."""

    frame: Tensor  # (N,) int64, 0-based
    xy: Tensor  # (N, 2) float32 original pixels
    names: tuple[str, ...]  # N distinct names

    def __len__(self) -> int:
        return self.frame.shape[0]

    def subset(self, keep: Tensor) -> QueryPoints:
        """The points at the indices ``keep``, in that order."""
        return QueryPoints(self.frame[keep], self.xy[keep], tuple(self.names[i] for i in keep.tolist()))


@dataclass(frozen=True)
class FeatureGrid:
    """One feature vector per cell and frame, and where the cells lie.

    Cell (row r, column c) is centred on x = offset_px + stride_px * c,
    y = offset_px + stride_px * r, in pixels of the working size.
    """

    values: Tensor  # (T, C, h, w) float, any floating dtype
    stride_px: float  # working pixels between neighbouring cells
    offset_px: float  # working pixel position of the centre of cell 0
    working_size: tuple[int, int]  # (H, W) the features were computed at

    @property
    def shape(self) -> tuple[int, int, int, int]:
        t, c, h, w = self.values.shape
        return t, c, h, w


@dataclass(frozen=True)
class FlowSequence:
    """Optical flow between neighbouring frames, both ways.

    ``forward[t]`` at pixel (x, y) of frame t is the displacement to frame t + 1;
    ``backward[t]`` at a pixel of frame t + 1 is the displacement to frame t.
    """

    forward: Tensor  # (T-1, 2, H, W) float16 (dx, dy) in pixels of this (H, W), not the working size
    backward: Tensor  # (T-1, 2, H, W) float16, likewise


@dataclass(frozen=True)
class Trajectories:
    """Chained flow: each trajectory is a run of consecutive frames, stored end to end.

    Trajectory m covers frames ``start[m] .. start[m] + length[m] - 1`` and its
    positions are ``xy[first[m] : first[m] + length[m]]``. Nothing is padded, so memory
    grows with the positions tracked, not with frames times trajectories.
    """

    start: Tensor  # (M,) int64 first frame
    length: Tensor  # (M,) int64 frames, at least 2
    first: Tensor  # (M,) int64 row of xy where the trajectory begins
    xy: Tensor  # (sum of length, 2) float32 working pixels

    def __len__(self) -> int:
        return self.start.shape[0]

    def present(self, frame_count: int) -> Tensor:
        """Which trajectories have a position in which frame: (M, T) bool."""
        frames = torch.arange(frame_count)
        return (self.start[:, None] <= frames) & (frames < (self.start + self.length)[:, None])

    def at(self, which: Tensor, frame: Tensor) -> Tensor:
        """Positions (P, 2) of trajectories ``which`` (P,) in frames ``frame`` (P,)."""
        return self.xy[self.first[which] + frame - self.start[which]]

    def subset(self, keep: Tensor) -> Trajectories:
        """The trajectories that the mask or index ``keep`` selects, as a copy."""
        start, length, first = self.start[keep], self.length[keep], self.first[keep]
        new_first = torch.cumsum(length, 0) - length
        rows = torch.repeat_interleave(first - new_first, length) + torch.arange(int(length.sum()))
        return Trajectories(start, length, new_first, self.xy[rows])


@dataclass(frozen=True)
class Tracks:
    """Where every query point is in every frame."""

    xy: Tensor  # (N, T, 2) float32 original pixels
    visibility: Tensor  # (N, T) bool, True when seen
    confidence: Tensor  # (N, T) float32 in 0..1

    @staticmethod
    def known(xy: Tensor, visibility: Tensor) -> Tracks:
        """Make true tracks, whose confidence is 1."""
        return Tracks(xy, visibility, visibility.new_ones(visibility.shape, dtype=torch.float32))

    def __len__(self) -> int:
        return self.xy.shape[0]

    def subset(self, keep: Tensor) -> Tracks:
        """The tracks at the indices ``keep``, in that order."""
        return Tracks(self.xy[keep], self.visibility[keep], self.confidence[keep])

    def first(self, frames: int) -> Tracks:
        """The same points in the first ``frames`` frames."""
        return self.part(0, frames)

    def part(self, first: int, count: int) -> Tracks:
        """The same points in ``count`` frames from the frame ``first`` on."""
        part = slice(first, first + count)
        return Tracks(self.xy[:, part], self.visibility[:, part], self.confidence[:, part])
