"""Windows of frames: what a step of the optimisation sees in place of whole frames.

A step costs in proportion to the pixels it sees. The windows of its frames follow one point, so that most of
what lies in one of them is in the others too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import Trajectories

MULTIPLE_PX = 32  # of sides, and of corners but at the far borders: coarse grids lie as in whole frames
CELL_PX = 8  # of the features that windows are cut out of
LEAST_PX = 192  # of a side, so that windows hold look-alikes to tell apart; smaller frames are seen whole


@dataclass(frozen=True)
class Windows:
    """A window of each frame of a batch."""

    corner: Tensor  # (F, 2) int64 x, y of the top left pixel
    size: Size  # (H, W) of all of them

    def hold(self, xy: Tensor, frame: int | Tensor) -> Tensor:
        """Whether positions (P, 2) lie in the window of the batch's frame, one for all or (P,): (P,) bool."""
        within = xy - self.corner[frame]
        last = torch.tensor([self.size[1] - 1, self.size[0] - 1])
        return ((within >= 0) & (within <= last)).all(-1)

    def cut(self, values: Tensor, stride_px: int = 1) -> Tensor:
        """Cut the windows out of (F, C, h, w), whose cells have a side of ``stride_px`` pixels."""
        height, width = (side // stride_px for side in self.size)
        corners = (self.corner // stride_px).tolist()
        cut = [value[:, y : y + height, x : x + width] for value, (x, y) in zip(values, corners, strict=True)]
        return torch.stack(cut)


def window_size(size: Size, side: float) -> Size:
    """The (H, W) of windows whose sides are about ``side`` of those of frames of ``size``, and no larger."""
    wanted = (round(side * whole / MULTIPLE_PX) * MULTIPLE_PX for whole in size)
    height, width = (min(whole, max(LEAST_PX, least)) for whole, least in zip(size, wanted, strict=True))
    return height, width


def sample_windows(
    trajectories: Trajectories,
    which: int,
    alive: Tensor,
    frames: Tensor,
    size: Size,
    window: Size,
    generator: torch.Generator,
) -> Windows:
    """Sample a window of each frame around one trajectory, at the same random place in all of them.

    Args:
        trajectories: What they are of.
        which: The trajectory to be seen.
        alive: (F, M) bool, which of them have a position in which frame.
        frames: (F,) int64.
        size: (H, W) of the frames.
        window: (H, W) of the windows.
        generator: Makes every choice.
    """
    shown = alive[:, which].nonzero().squeeze(1)
    nearest = shown[(shown[None] - torch.arange(len(frames))[:, None]).abs().argmin(1)]
    xy = trajectories.at(torch.full_like(frames, which), frames[nearest])
    extent = torch.tensor([window[1], window[0]])
    corner = xy - torch.rand(2, generator=generator) * extent
    corner = (corner / MULTIPLE_PX).round().long() * MULTIPLE_PX
    most = (torch.tensor([size[1], size[0]]) - extent) // CELL_PX * CELL_PX  # the far borders are seen too
    return Windows(corner.clamp_min(0).minimum(most), window)
