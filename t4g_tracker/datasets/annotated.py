"""A clip with annotated points, and the part of it that is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from t4g_tracker.choices import Resolution
from t4g_tracker.coordinates import Size, fractions_to_pixels, rescale
from t4g_tracker.datatypes import Tracks, Video
from t4g_tracker.errors import DatasetError
from t4g_tracker.video import working_frames


@dataclass(frozen=True)
class AnnotatedClip:
    """A video and its annotated points."""

    video: Video
    truth: Tracks  # pixels of the video; hidden in frames without annotations
    stored_size: Size  # (H, W) at which the clip was annotated
    reach_px: Tensor | None = None  # (T,) BADJA only, pixels of the stored size; NaN without annotations


def annotated(video: Video, points: np.ndarray, occluded: np.ndarray, source: str) -> AnnotatedClip:
    """Combine a video with TAP-Vid's annotations.

    Args:
        video: T frames.
        points: (N, T, 2) fractions of width and height.
        occluded: (N, T) truth values.
        source: Name of the annotations, for error messages.

    Raises:
        DatasetError: If video, points and occlusion do not fit together.
    """
    if points.ndim != 3 or points.shape[2] != 2 or occluded.shape != points.shape[:2]:
        raise DatasetError(
            f"{source}: points {points.shape} and occluded {occluded.shape} do not fit together; they must "
            "be (points, frames, 2) and (points, frames)"
        )
    if points.shape[1] != video.frame_count:
        raise DatasetError(
            f"{source}: has {points.shape[1]} frames, the clip has {video.frame_count}; "
            "give tracks and frames of the same clip, one file for each frame"
        )
    xy = fractions_to_pixels(torch.from_numpy(points.astype(np.float32)), video.size)
    truth = Tracks.known(xy, torch.from_numpy(~occluded.astype(bool)))
    return AnnotatedClip(video, truth, video.size)


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
        if not truth.visibility.any():
            raise DatasetError(
                f"{clip.video.source}: no annotated point is visible in its first {count} frames; "
                "leave it out with --clips"
            )
        size = self.size(video.size)
        if size != video.size:
            frames = working_frames(video, size).permute(0, 2, 3, 1).contiguous().numpy()
            truth = replace(truth, xy=rescale(truth.xy, video.size, size))
            video = replace(video, frames=frames)
        return AnnotatedClip(video, truth, clip.stored_size, reach)

    def describe(self) -> str:
        """Describe the view for tables: "480p, first 24 frames"."""
        size = {"stored": "as stored", "480p": "480p", "256": "256x256"}[self.resolution]
        return f"{size}, {f'first {self.first_frames} frames' if self.first_frames else 'all frames'}"
