"""Folders in the DAVIS layout with TAP-Vid tracks beside the frames.

``JPEGImages/480p/<clip>/*.jpg`` holds the frames, ``tracks/<clip>.npz`` TAP-Vid's fields:
``points`` (N, T, 2) as fractions of width and height, and ``occluded`` (N, T) bool.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t4g_tracker.datasets.annotated import AnnotatedClip, annotated
from t4g_tracker.datasets.annotations import Annotations, checked_annotations
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import DatasetError, QueryError
from t4g_tracker.inputs.array_files import ArrayFile
from t4g_tracker.inputs.image_sequences import image_files
from t4g_tracker.inputs.input_files import open_input
from t4g_tracker.inputs.video import read_video

_MOST_BYTES = 2**30  # of a file, and of an array


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
        return read_annotations(self._tracks(name), read_video(self._frames(name)))

    def visibility(self, name: str) -> np.ndarray:
        """Read and check the annotations of one clip, without its frames; (N, T) bool, True where visible.

        Raises:
            DatasetError: If they are unusable, or there is no folder of frames.
        """
        return check_annotations(self._tracks(name), self._frames(name)).seen

    def _tracks(self, name: str) -> Path:
        return self.root / "tracks" / f"{name}.npz"

    def _frames(self, name: str) -> Path:
        return self.root / "JPEGImages" / "480p" / name


def read_annotations(file: Path, video: Video) -> AnnotatedClip:
    """Read the tracks of a video from an npz file.

    Raises:
        DatasetError: If the file is damaged or does not fit the video.
    """
    return annotated(video, *_arrays(file), str(file))


def check_annotations(file: Path, frames: Path) -> Annotations:
    """Read and check the tracks in an npz file against the number of files in a folder of frames.

    Raises:
        DatasetError: If they are unusable, or there is no folder of frames.
    """
    points, occluded = _arrays(file)
    if not frames.is_dir():
        raise DatasetError(f"{frames}: no such folder; put the frames there that {file} belongs to")
    return checked_annotations(points, occluded, len(image_files(frames)), str(file))


def _arrays(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read points and occluded, not yet checked, from an npz file."""
    with open_input(file, _MOST_BYTES, DatasetError, "an npz file with points and occluded") as opened:
        try:
            arrays = ArrayFile(opened, _MOST_BYTES)
            missing = [name for name in ("points", "occluded") if name not in arrays.names]
            if missing:
                raise QueryError(
                    f"has no array named {missing[0]}; write points and occluded as docs/formats.md describes"
                )
            return arrays.read("points"), arrays.read("occluded")
        except QueryError as error:
            raise DatasetError(f"{file}: {error}") from error
