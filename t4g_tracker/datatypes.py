"""Values that travel together between the stages, as frozen dataclasses.

Positions are (x, y) in pixels, whole numbers at pixel centres. Unless a field says
otherwise they are pixels of the original video. T frames, N query points, C channels,
H and W the grid at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

Empty = Callable[..., Tensor]  # torch.empty, or what makes the same tensor in a file: shape, and dtype=


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
class FlowFields:
    """Optical flow between pairs of frames, both ways.

    ``forward[p]`` at pixel (x, y) of frame ``pairs[p, 0]`` is the displacement to frame ``pairs[p, 1]``;
    ``backward[p]`` at a pixel of the latter is the displacement to the former.
    """

    pairs: Tensor  # (P, 2) int64, distinct, the earlier frame first
    forward: Tensor  # (P, 2, H, W) float16 (dx, dy) in pixels of this (H, W), not the working size
    backward: Tensor  # (P, 2, H, W) float16, likewise

    @staticmethod
    def of_neighbours(forward: Tensor, backward: Tensor) -> FlowFields:
        """Flow of the pairs (0, 1), (1, 2), and so on."""
        first = torch.arange(len(forward))
        return FlowFields(torch.stack([first, first + 1], 1), forward, backward)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pixels that displacements are in."""
        return int(self.forward.shape[-2]), int(self.forward.shape[-1])

    @cached_property
    def _rows(self) -> dict[tuple[int, int], int]:
        return {(first, second): row for row, (first, second) in enumerate(self.pairs.tolist())}

    @cached_property
    def leading_to(self) -> dict[int, list[int]]:
        """The frames that flow leads from, by the frame that it leads to."""
        sources: dict[int, list[int]] = {}
        for first, second in self._rows:
            sources.setdefault(second, []).append(first)
            sources.setdefault(first, []).append(second)
        return sources

    def has(self, begin: int, end: int) -> bool:
        """Whether the flow between two frames is here; one way is if the other is."""
        return (min(begin, end), max(begin, end)) in self._rows

    def between(self, begin: int, end: int) -> Tensor:
        """The displacement (2, H, W) from the frame ``begin`` to the frame ``end``, in whichever order.

        Raises:
            KeyError: If it is not here.
        """
        if begin < end:
            return self.forward[self._rows[begin, end]]
        return self.backward[self._rows[end, begin]]


@dataclass(frozen=True)
class Trajectories:
    """Positions of physical points in the frames that show them, stored end to end.

    The positions of trajectory m are ``xy[first[m] : first[m] + length[m]]``, in the frames
    ``frame[first[m] : first[m] + length[m]]``, which ascend and may have gaps where the point is hidden.
    Positions are not padded: beside them, a table takes a byte for each trajectory and frame.
    """

    length: Tensor  # (M,) int64 positions, at least 2
    frame: Tensor  # (sum of length,) int32
    xy: Tensor  # (sum of length, 2) float32 working pixels

    def __len__(self) -> int:
        return self.length.shape[0]

    @cached_property
    def first(self) -> Tensor:
        """(M,) row of ``xy`` where each trajectory begins."""
        return torch.cumsum(self.length, 0) - self.length

    @cached_property
    def owner(self) -> Tensor:
        """(sum of length,) trajectory that each position belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.length)

    @property
    def begin(self) -> Tensor:
        """(M,) int64 first frame of each."""
        return self.frame[self.first].long()

    def present(self, frame_count: int) -> Tensor:
        """Which trajectories have a position in which of the first ``frame_count`` frames: (M, T) bool."""
        missing = frame_count - self._table.shape[1]
        return pad(self._table, (0, missing)) if missing else self._table

    def shown(self, frames: Tensor) -> Tensor:
        """Which trajectories have a position in the frames ``frames`` (F,): (F, M) bool."""
        within = frames < len(self._by_frame)
        return self._by_frame[frames.clamp_max(len(self._by_frame) - 1)] & within[:, None]

    @cached_property
    def _by_frame(self) -> Tensor:
        """(last frame + 1, M) bool; a frame lies in one piece, since sampling reads some in every step."""
        return self._table.T.contiguous()

    @cached_property
    def _table(self) -> Tensor:
        """(M, last frame + 1) bool."""
        table = torch.zeros(len(self), self._stride, dtype=torch.bool)
        table[self.owner, self.frame.long()] = True
        return table

    def at(self, which: Tensor, frame: Tensor) -> Tensor:
        """Positions (P, 2) of trajectories ``which`` (P,) in frames ``frame`` (P,), which must have one."""
        return self.xy[torch.searchsorted(self._keys, which * self._stride + frame)]

    @cached_property
    def _stride(self) -> int:
        return int(self.frame.max()) + 1 if len(self.frame) else 1

    @cached_property
    def _keys(self) -> Tensor:
        """(sum of length,) numbers that ascend, one for each pair of trajectory and frame."""
        return self.owner * self._stride + self.frame

    def subset(self, keep: Tensor) -> Trajectories:
        """The trajectories that the mask or index ``keep`` selects, as a copy."""
        first, length = self.first[keep], self.length[keep]
        shift = first - (torch.cumsum(length, 0) - length)
        rows = torch.repeat_interleave(shift, length) + torch.arange(int(length.sum()))
        return Trajectories(length, self.frame[rows], self.xy[rows])


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
