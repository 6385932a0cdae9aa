"""TAP-Vid's published pickles: DAVIS, Kinetics, RGB-Stacking and RoboTAP.

A file holds a dict (clip name to clip) or a list of clips; a large set is a folder of such files. A
clip is a dict of ``video`` (T, H, W, 3) uint8 or T encoded images, ``points`` (N, T, 2) as
fractions of width and height, and ``occluded`` (N, T). Source: TAP-Vid, arXiv:2211.03726.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch

from t4g_tracker.coordinates import fractions_to_pixels
from t4g_tracker.datasets.annotated import AnnotatedClip
from t4g_tracker.datasets.pickles import StoredArray, StoredBytes, open_pickle
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import DatasetError, one_line

FPS = 24.0  # the pickles do not say; only overlays are played


class PickledClips:
    """The clips of a pickle file or of a folder of them; only what is asked for is read.

    Args:
        path: The file, or a folder of .pkl files.

    Raises:
        DatasetError: If a file is not a pickle of clips, or names what it should not; nothing in
            it is run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        files = sorted(path.glob("*.pkl")) if path.is_dir() else [path]
        if not files:
            raise DatasetError(
                f"{path}: has no .pkl file; give TAP-Vid's file, or the folder that holds them"
            )
        self._clips: dict[str, dict[str, Any]] = {}
        for file in files:
            for name, clip in _entries(file).items():
                if name in self._clips:
                    raise DatasetError(f"{file}: has a clip {name}, and so has another file of {path}")
                self._clips[name] = _checked(clip, file, name)

    def names(self) -> list[str]:
        return list(self._clips)

    def load(self, name: str) -> AnnotatedClip:
        """Read one clip.

        Raises:
            DatasetError: If its arrays do not fit together or a frame cannot be decoded.
        """
        source, clip = f"{self.path}[{name}]", self._clips[name]
        frames = _frames(clip["video"], source)
        points, occluded = np.asarray(_read(clip["points"])), np.asarray(_read(clip["occluded"]))
        if points.ndim != 3 or points.shape[2] != 2 or occluded.shape != points.shape[:2]:
            raise DatasetError(
                f"{source}: points {points.shape} and occluded {occluded.shape} do not fit together"
            )
        if points.shape[1] != len(frames):
            raise DatasetError(
                f"{source}: has {points.shape[1]} annotated frames, but {len(frames)} pictures"
            )
        video = Video(frames, FPS, name, source)
        xy = fractions_to_pixels(torch.from_numpy(points.astype(np.float32)), video.size)
        return AnnotatedClip(video, xy, torch.from_numpy(~occluded.astype(bool)))


def _entries(file: Path) -> dict[str, Any]:
    """Clips by name; those of a list are named after the file and their place."""
    kept = open_pickle(file)
    if isinstance(kept, StoredArray) and kept.dtype.hasobject:
        kept = list(kept.read())
    if isinstance(kept, dict):
        return {str(name).replace("/", "_"): clip for name, clip in kept.items()}
    if isinstance(kept, list | tuple):
        return {f"{file.stem}-{index:04d}": clip for index, clip in enumerate(kept)}
    raise DatasetError(f"{file}: holds a {type(kept).__name__}, not a dict or a list of clips")


def _checked(clip: Any, file: Path, name: str) -> dict[str, Any]:
    for part in ("video", "points", "occluded"):
        if not isinstance(clip, dict) or part not in clip:
            raise DatasetError(f"{file}: clip {name} has no {part}; TAP-Vid's clips are dicts that have one")
    return clip


def _read(value: Any) -> Any:
    if isinstance(value, StoredArray | StoredBytes):
        return value.read()
    return value


def _frames(video: Any, source: str) -> np.ndarray:
    """(T, H, W, 3) uint8 from an array, or from a list of encoded images."""
    frames = _read(video)
    if not isinstance(frames, np.ndarray) or frames.dtype.hasobject:
        frames = _decoded([_read(frame) for frame in frames], source)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) < 2:
        raise DatasetError(
            f"{source}: its video is {frames.dtype} {frames.shape}, "
            "not at least two frames (T, H, W, 3) of uint8"
        )
    return frames


def _picture(image: Any) -> np.ndarray:
    """(H, W, 3) of an encoded image, or of an array."""
    if isinstance(image, bytes):
        return iio.imread(io.BytesIO(image), plugin="pillow")[..., :3]
    return np.asarray(image)


def _decoded(images: list[Any], source: str) -> np.ndarray:
    try:
        return np.stack(
            [
                iio.imread(io.BytesIO(image), plugin="pillow")[..., :3]
                if isinstance(image, bytes)
                else np.asarray(image)
                for image in images
            ]
        )
    except Exception as error:  # imageio's plugins raise what they like
        raise DatasetError(f"{source}: a frame cannot be decoded ({one_line(error)})") from error
