"""TAP-Vid's published pickles: DAVIS, Kinetics, RGB-Stacking and RoboTAP.

A file holds a dict (clip name to clip) or a list of clips; a large set is a folder of such files. A
clip is a dict of ``video`` (T, H, W, 3) uint8 or T encoded images, ``points`` (N, T, 2) as
fractions of width and height, and ``occluded`` (N, T). Source: TAP-Vid, arXiv:2211.03726.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t4g_tracker.arrays import SMALLEST_SIDE_PX
from t4g_tracker.datasets.annotated import AnnotatedClip, annotated
from t4g_tracker.datasets.annotations import checked_annotations
from t4g_tracker.datasets.pickles import StoredArray, StoredBytes, open_pickle
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import DatasetError, one_line
from t4g_tracker.inputs.images import IMAGE_ERRORS
from t4g_tracker.storage.files import safe_name

FPS = 24.0  # the pickles have no rate; only overlays need one
REMEDY = "use the file of its publisher"
LONGEST_NAME_BYTES = 200  # most file systems allow 255, with an extension


class PickledClips:
    """The clips of a pickle file or of a folder of them; a clip is read only when it is loaded.

    Args:
        path: The file, or a folder of .pkl files.

    Raises:
        DatasetError: If a file is not a pickle of clips, or names anything that could run code;
            nothing in it is run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        files = sorted(path.glob("[!.]*.pkl")) if path.is_dir() else [path]
        if not files:
            raise DatasetError(
                f"{path}: has no .pkl file; give TAP-Vid's file, or the folder that holds them"
            )
        self._clips: dict[str, dict[str, Any]] = {}
        for file in files:
            for name, clip in _entries(file).items():
                if name in self._clips:
                    raise DatasetError(
                        f"{file}: has a clip {name}, and so has another file of {path}; leave one out"
                    )
                self._clips[name] = _checked(clip, file, name)
        if not self._clips:
            raise DatasetError(f"{path}: holds no clips; {REMEDY}")

    def names(self) -> list[str]:
        return list(self._clips)

    def load(self, name: str) -> AnnotatedClip:
        """Read one clip.

        Raises:
            DatasetError: If its arrays do not fit together or a frame cannot be decoded.
        """
        source = f"{self.path}[{name}]"
        if name not in self._clips:
            raise DatasetError(f"{source}: there is no such clip; name one of its own")
        clip = self._clips[name]
        frames = _frames(clip["video"], source)
        video = Video(frames, FPS, name, source)
        return annotated(video, _array(clip["points"]), _array(clip["occluded"]), source)

    def visibility(self, name: str) -> np.ndarray:
        """Read and check the annotations of one clip, without its frames; (N, T) bool, True where visible.

        Raises:
            DatasetError: If they are unusable.
        """
        clip, source = self._clips[name], f"{self.path}[{name}]"
        video = clip["video"]
        count = video.shape[0] if isinstance(video, StoredArray) and video.shape else 0
        count = len(video) if isinstance(video, list | tuple) else count
        if count < 2:
            raise DatasetError(f"{source}: its video is not at least two frames; {REMEDY}")
        return checked_annotations(_array(clip["points"]), _array(clip["occluded"]), count, source).seen


def _entries(file: Path) -> dict[str, Any]:
    """Read clips by name; those of a list are named after the file and their index."""
    stored = open_pickle(file)
    if isinstance(stored, StoredArray) and isinstance(stored.content, list):
        stored = stored.content
    if isinstance(stored, list | tuple):
        return {f"{file.stem}-{index:04d}": clip for index, clip in enumerate(stored)}
    if not isinstance(stored, dict):
        raise DatasetError(
            f"{file}: holds a {type(stored).__name__}, not a dict or a list of clips; {REMEDY}"
        )
    clips: dict[str, Any] = {}
    for key, clip in stored.items():
        name = _safe_name(key, file)
        if name in clips:
            raise DatasetError(f"{file}: two clips are called {name}; rename one")
        clips[name] = clip
    return clips


def _safe_name(key: Any, file: Path) -> str:
    """Make the name of a clip, after which files of results are named, from its key in the file."""
    too_long = (
        f"{file}: a clip's name is longer than {LONGEST_NAME_BYTES} bytes, too long for files of results"
    )
    if isinstance(key, int) and abs(key) >= 10**LONGEST_NAME_BYTES:  # Python may refuse to make it a text
        raise DatasetError(f"{too_long}; rename it")
    if not isinstance(key, str | int):
        raise DatasetError(f"{file}: a clip's name must be a text, got {type(key).__name__}; {REMEDY}")
    name = safe_name(str(key).encode(errors="replace").decode(), "_")
    if len(name.encode()) > LONGEST_NAME_BYTES:
        raise DatasetError(f"{too_long}; rename {name[:20]}...")
    return name


def _checked(clip: Any, file: Path, name: str) -> dict[str, Any]:
    for part in ("video", "points", "occluded"):
        if not isinstance(clip, dict) or part not in clip:
            raise DatasetError(f"{file}: clip {name} has no {part}; {REMEDY}")
    return clip


def _array(value: Any) -> Any:
    """Read a stored array; leave anything else as it is."""
    return value.read() if isinstance(value, StoredArray) else value


def _frames(video: Any, source: str) -> np.ndarray:
    """Read frames (T, H, W, 3) uint8 from an array, or from a list of encoded images."""
    frames = video.read() if isinstance(video, StoredArray) else video
    if isinstance(frames, list | tuple) or (isinstance(frames, np.ndarray) and frames.dtype.hasobject):
        frames = _decoded(list(frames), source)
    if not isinstance(frames, np.ndarray) or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
        kind = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise DatasetError(
            f"{source}: its video is {kind}, not at least two frames (T, H, W, 3) of uint8; {REMEDY}"
        )
    if frames.dtype != np.uint8:
        raise DatasetError(f"{source}: its video is {frames.dtype}, not uint8; {REMEDY}")
    if min(frames.shape[1:3]) < SMALLEST_SIDE_PX:
        raise DatasetError(
            f"{source}: frames of {frames.shape[2]}x{frames.shape[1]} are too small; each side needs "
            f"{SMALLEST_SIDE_PX} px"
        )
    return frames


def _decoded(images: list[Any], source: str) -> np.ndarray:
    try:
        return np.stack([_picture(image) for image in images])
    except (*IMAGE_ERRORS, TypeError) as error:
        raise DatasetError(f"{source}: a frame cannot be decoded ({one_line(error)}); {REMEDY}") from error


def _picture(image: Any) -> np.ndarray:
    """Read (H, W, 3) from an encoded image or an array."""
    if isinstance(image, StoredArray):
        return image.read()
    encoded = image.read() if isinstance(image, StoredBytes) else image
    with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as opened:
        return np.asarray(opened.convert("RGB"))
