"""Folders in the DAVIS layout with TAP-Vid tracks beside the frames.

``JPEGImages/480p/<clip>/*.jpg`` holds the frames and ``tracks/<clip>.npz`` TAP-Vid's own
fields: ``points`` (N, T, 2) as fractions of width and height, ``occluded`` (N, T) bool.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t4g_tracker.coordinates import fractions_to_pixels
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import DatasetError
from t4g_tracker.video import read_video


@dataclass(frozen=True)
class AnnotatedClip:
    """A video and where annotated points are in it."""

    video: Video
    xy: Tensor  # (N, T, 2) original pixels; meaningless where hidden
    visibility: Tensor  # (N, T) bool


def clip_names(root: Path, wanted: list[str] | None = None) -> list[str]:
    """Names of the annotated clips below ``root``, sorted, or those of them that are wanted.

    Raises:
        DatasetError: If there are none, or a wanted one is missing.
    """
    names = sorted(path.stem for path in (root / "tracks").glob("*.npz"))
    if not names:
        raise DatasetError(
            f"{root}: has no tracks/<clip>.npz; give a folder with JPEGImages/480p/<clip>/ and tracks/"
        )
    for name in wanted or []:
        if name not in names:
            raise DatasetError(f"{root}: has no clip {name}; it has {', '.join(names)}")
    return wanted or names


def load_clip(root: Path, name: str) -> AnnotatedClip:
    """Read one clip's frames and tracks.

    Raises:
        DatasetError: If the annotation file is damaged or does not fit the frames.
        VideoError: If the frames cannot be read.
    """
    file = root / "tracks" / f"{name}.npz"
    video = read_video(root / "JPEGImages" / "480p" / name)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            points, occluded = arrays["points"], arrays["occluded"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{file}: is not a file of points and occluded ({error})") from error
    if points.ndim != 3 or points.shape[2] != 2 or occluded.shape != points.shape[:2]:
        raise DatasetError(f"{file}: points {points.shape} and occluded {occluded.shape} do not fit together")
    if points.shape[1] != video.frame_count:
        raise DatasetError(f"{file}: has {points.shape[1]} frames, the clip has {video.frame_count}")
    xy = fractions_to_pixels(torch.from_numpy(points.astype(np.float32)), video.size)
    return AnnotatedClip(video, xy, torch.from_numpy(~occluded.astype(bool)))
