"""A clip with annotated points, and the part of it that is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t4g_tracker.choices import Resolution
from t4g_tracker.coordinates import Size, fractions_to_pixels, rescale
from t4g_tracker.datasets.annotations import checked_annotations, warn_of_points_outside
from t4g_tracker.datatypes import Tracks, Video
from t4g_tracker.errors import DatasetError
from t4g_tracker.inputs.video import working_frames


@dataclass(frozen=True)
class AnnotatedClip:
    """A video and its annotated points."""

    video: Video
    truth: Tracks  # pixels of the video; hidden in frames without annotations
    stored_size: Size  # (H, W) at which the clip was annotated
    reach_px: Tensor | None = None  # (T,) BADJA only, pixels of the stored size; NaN without annotations


def annotated(video: Video, points: Any, occluded: Any, source: str) -> AnnotatedClip:
    """Combine a video with TAP-Vid's annotations; warn of visible points outside the frame.

    Args:
        video: T frames.
        points: (N, T, 2) fractions of width and height.
        occluded: (N, T) truth values.
        source: Name of the annotations, for error messages.

    Raises:
        DatasetError: As in ``checked_annotations``.
    """
    annotations = checked_annotations(points, occluded, video.frame_count, source)
    warn_of_points_outside(annotations, source)
    xy = fractions_to_pixels(torch.from_numpy(annotations.points), video.size)
    return AnnotatedClip(video, Tracks.known(xy, torch.from_numpy(annotations.seen)), video.size)


@dataclass(frozen=True)
class View:
    """The frames of a clip that are tracked: how many, and at what size."""

    resolution: Resolution = "stored"
    first_frames: int = 0  # 0: all

    def size(self, stored: Size) -> Size:
        """The (H, W) that frames of the stored (H, W) are resized to; 480p never enlarges."""
        if self.resolution == "256":
            return 256, 256
        shrink = min(1.0, 480 / min(stored)) if self.resolution == "480p" else 1.0
        return round(stored[0] * shrink), round(stored[1] * shrink)

    def of(self, clip: AnnotatedClip) -> AnnotatedClip:
        """Cut and resize a clip and its annotations.

        Raises:
            DatasetError: If no visible annotated point is left.
        """
        count = self.first_frames or clip.video.frame_count
        video = replace(clip.video, frames=clip.video.frames[:count])
        truth = clip.truth.first(count)
        reach = None if clip.reach_px is None else clip.reach_px[:count]
        self.check(truth.visibility.numpy(), clip.video.source)
        size = self.size(video.size)
        if size != video.size:
            frames = working_frames(video, size).permute(0, 2, 3, 1).contiguous().numpy()
            truth = replace(truth, xy=rescale(truth.xy, video.size, size))
            video = replace(video, frames=frames)
        return AnnotatedClip(video, truth, clip.stored_size, reach)

    def check(self, visibility: np.ndarray, source: str) -> None:
        """Raise DatasetError if no annotated point of a clip (N, T) is visible in its frames."""
        count = self.first_frames or visibility.shape[1]
        if not visibility[:, :count].any():
            raise DatasetError(
                f"{source}: no annotated point is visible in its first {count} frames; "
                "leave it out with --clips"
            )

    def describe(self) -> str:
        """Describe the view for tables: "480p, first 24 frames"."""
        size = {"stored": "as stored", "480p": "480p", "256": "256x256"}[self.resolution]
        return f"{size}, {f'first {self.first_frames} frames' if self.first_frames else 'all frames'}"
