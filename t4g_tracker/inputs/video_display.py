"""What a player makes of decoded pictures: crop, rotation and mirroring, shape of a pixel."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

import av
import av.logging
import numpy as np

_DESCRIBING = threading.Lock()  # PyAV's level of logging is one for all threads
_STREAM = re.compile(r"^  Stream #\d+:(\d+)")
_CROP = re.compile(r"^ {4,}Frame cropping: (\d+)/(\d+)/(\d+)/(\d+)$", re.IGNORECASE)  # C from FFmpeg 8.1 on


@dataclass(frozen=True)
class Crop:
    """Pixels that the container tells players to cut off each side of the decoded picture."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """Crop a frame (H, W, 3); one that would vanish stays as it is."""
        height, width = frame.shape[:2]
        cut = frame[self.top : height - self.bottom, self.left : width - self.right]
        return cut if cut.size else frame


def container_crop(container: Any, stream: Any) -> Crop:
    """Find the crop that the container states for a stream (Matroska: PixelCrop, mp4: clap).

    FFmpeg reads it, and PyAV hands it over only in its description of the file.
    """
    with _DESCRIBING:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)  # without it the description is empty
        try:
            description = container.dumps_format()
        finally:
            av.logging.set_level(level)
    index = -1
    for line in description.splitlines():
        found = _STREAM.match(line)
        index = int(found[1]) if found else index
        crop = _CROP.match(line)
        if crop and index == stream.index:
            return Crop(*(int(side) for side in crop.groups()))
    return Crop()


def pixel_aspect(stream: Any, turned: bool) -> float:
    """Width of a pixel over its height, as shown; the container's word counts more than the codec's.

    ``turned``: the pictures are shown after a quarter turn.
    """
    stored = float(stream.sample_aspect_ratio or 1)
    return 1 / stored if turned else stored


def is_on_its_side(picture: Any) -> bool:
    """Whether a decoded picture is shown after a quarter turn."""
    matrix = _display_matrix(picture)
    return matrix is not None and abs(matrix[1]) > abs(matrix[0])


def is_oblique(picture: Any) -> bool:
    """Whether a decoded picture is to be shown after a turn by an angle other than quarters, or sheared."""
    matrix = _display_matrix(picture)
    if matrix is None:
        return False
    a, b, c, d = map(abs, matrix)
    return min(max(a, d), max(b, c)) > 0.01 * max(a, b, c, d)


def displayed(picture: Any, crop: Crop) -> np.ndarray:
    """Convert a decoded picture to (H, W, 3) uint8: cropped, then turned and mirrored by its matrix."""
    frame = crop.apply(picture.to_ndarray(format="rgb24"))
    matrix = _display_matrix(picture)
    if matrix is None:
        return np.ascontiguousarray(frame)
    a, b, c, d = matrix  # (x, y) is shown at (a x + c y, b x + d y)
    if abs(b) > abs(a):
        frame, flip_x, flip_y = frame.swapaxes(0, 1), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(frame[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def _display_matrix(picture: Any) -> tuple[int, int, int, int] | None:
    """The numbers a, b, c, d of a picture's display matrix, which FFmpeg stores as a b u c d v x y w."""
    side_data = picture.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    if side_data is None:
        return None
    a, b, _, c, d, *_ = (int(value) for value in np.frombuffer(bytes(side_data), np.int32))
    return a, b, c, d
