"""The pictures that videos start from, and the mask of the points to track in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size, middle_part
from t4g_tracker.datatypes import QueryPoints, Video
from t4g_tracker.errors import VideoError
from t4g_tracker.inputs.bit_depths import EightBitFrames
from t4g_tracker.inputs.image_sequences import FRAME_SUFFIXES
from t4g_tracker.inputs.images import read_picture
from t4g_tracker.inputs.masks import check_mask, read_mask
from t4g_tracker.inputs.queries import grid_queries
from t4g_tracker.inputs.video import read_video, working_frames
from t4g_tracker.storage.files import safe_name

if TYPE_CHECKING:
    from t4g_tracker.inputs.mask_objects import Name


@dataclass(frozen=True)
class Picture:
    """A picture that videos start from."""

    name: str  # of its folder in the results
    path: Path
    original: Size  # (H, W) as read
    rgb: Tensor  # (3, H, W) uint8: its middle, at the size of the frames

    @property
    def digest(self) -> str:
        """Identifies what the models see."""
        return _digest(self.rgb.numpy())

    @property
    def cut_from(self) -> Size | None:
        """(H, W) of the picture if more than a pixel's row or column was cut off on a side, else None."""
        kept = middle_part(self.original, (self.rgb.shape[-2], self.rgb.shape[-1]))
        lost = [side - (part.stop - part.start) for side, part in zip(self.original, kept, strict=True)]
        return self.original if max(lost) > 2 else None


@dataclass(frozen=True)
class GridRequest:
    """A grid of points in the first frame of every video."""

    across: int  # points in a row
    mask: Path | None = None  # only points inside; of the one picture
    mask_object: Name | None = None


def _digest(values: np.ndarray) -> str:
    content = repr(values.shape).encode() + np.ascontiguousarray(values).tobytes()
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def find_pictures(paths: Sequence[Path], size: Size) -> tuple[Picture, ...]:
    """Read pictures, cut their middle out in the aspect of ``size``, and resize it.

    Args:
        paths: Images, folders of images, and videos, of which the first frame is taken.
        size: (H, W) of the frames to generate.

    Raises:
        VideoError: If one is missing or cannot be read, a folder has no images, or two have one name.
    """
    pictures: list[Picture] = []
    for path in (file for given in paths for file in _files(given)):
        name = safe_name(path.stem)
        for other in pictures:
            if other.name.lower() == name.lower():
                raise VideoError(
                    f"{path}: has the name of {other.path}, and results of both would be in one folder; "
                    "rename one"
                )
        original = _read(path)
        read = original.shape[0], original.shape[1]
        pictures.append(Picture(name, path, read, _fitted(original, size)))
    return tuple(pictures)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _is_image(file) and file.name[0] != ".")
        if not files:
            raise VideoError(f"{path}: has no images; give a folder that holds images directly")
        return files
    if not path.exists():
        raise VideoError(f"{path}: no such file or folder; give an image, a video or a folder of images")
    return [path]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in FRAME_SUFFIXES


def _read(path: Path) -> np.ndarray:
    """Read an image, or the first frame of a video, as (H, W, 3) uint8."""
    if not _is_image(path):
        return read_video(path, 2).frames[0]
    frames = EightBitFrames()
    frames.add(read_picture(path).rgb)
    return frames.finished(path, ())[0]


def _fitted(picture: np.ndarray, size: Size) -> Tensor:
    rows, columns = middle_part((picture.shape[0], picture.shape[1]), size)
    return working_frames(Video(picture[None, rows, columns], 1.0, "", ""), size)[0]


def grid_of(request: GridRequest, picture: Picture, size: Size) -> tuple[QueryPoints, str]:
    """Make the grid of points in the first frame of a picture's videos.

    Args:
        request: How many points, and inside which mask, which has the size of the original picture.
        picture: Where the videos start.
        size: (H, W) of the frames.

    Returns:
        The points, in pixels of the frames, and a digest of the mask, empty without one.

    Raises:
        QueryError: If the mask cannot be read, does not fit, or has no grid point inside.
    """
    first = Video(picture.rgb.permute(1, 2, 0).numpy()[None], 1.0, picture.name, str(picture.path))
    if request.mask is None:
        return grid_queries(first, request.across), ""
    pixels = np.broadcast_to(np.uint8(0), (1, *picture.original, 3))  # only their number counts
    whole = Video(pixels, 1.0, picture.name, str(picture.path))
    mask = read_mask(request.mask, whole, mask_object=request.mask_object)
    cut = torch.from_numpy(mask[middle_part(whole.size, size)])[None, None].float()
    inside = interpolate(cut, size=size, mode="nearest-exact")[0, 0].numpy() > 0.5
    check_mask(inside, first, f"{request.mask}: the part in the frames, the middle of the picture,")
    return grid_queries(first, request.across, 0, inside), _digest(inside)
