"""Folders in the DAVIS layout with TAP-Vid tracks beside the frames.

``JPEGImages/480p/<clip>/*.jpg`` holds the frames, ``tracks/<clip>.npz`` TAP-Vid's fields:
``points`` (N, T, 2) as fractions of width and height, and ``occluded`` (N, T) bool.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t4g_tracker.datasets.annotated import AnnotatedClip, annotated
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import DAMAGED_ARRAYS, DatasetError
from t4g_tracker.video import read_video


class FolderClips:
    """The annotated clips of a folder in this layout.

    Args:
        root: The folder.

    Raises:
        DatasetError: If it has no clips.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names = sorted(path.stem for path in (root / "tracks").glob("[!.]*.npz"))
        if not self._names:
            raise DatasetError(
                f"{root}: has no tracks/<clip>.npz; give a folder with JPEGImages/480p/<clip>/ and tracks/"
            )

    def names(self) -> list[str]:
        return self._names

    def load(self, name: str) -> AnnotatedClip:
        """Read one clip's frames and tracks.

        Raises:
            DatasetError: If the annotation file is damaged or does not fit the frames.
            VideoError: If the frames cannot be read.
        """
        video = read_video(self.root / "JPEGImages" / "480p" / name)
        return read_annotations(self.root / "tracks" / f"{name}.npz", video)


def read_annotations(file: Path, video: Video) -> AnnotatedClip:
    """Read the tracks of a video from an npz file.

    Raises:
        DatasetError: If the file is damaged or does not fit the video.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            points, occluded = arrays["points"], arrays["occluded"]
    except DAMAGED_ARRAYS as error:
        raise DatasetError(
            f"{file}: is not a file of points and occluded ({error}); write it as docs/formats.md describes"
        ) from error
    return annotated(video, points, occluded, str(file))
