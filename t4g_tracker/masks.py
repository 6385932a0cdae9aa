"""Masks of an object: one as an image, or one per frame so that training pairs can favour what matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import QueryError, VideoError
from t4g_tracker.image_sequences import IMAGE_ERRORS, image_files


def read_mask(path: str | Path, video: Video, may_be_empty: bool = False) -> np.ndarray:
    """Read which pixels belong to an object.

    Any image will do: a pixel is inside where it is not zero. In a palette image, such as
    DAVIS's, the index counts and not its colour. An alpha channel must be more
    than zero as well. JPEG smears its zeros, so there the limit is half brightness.

    Args:
        path: The image.
        video: Gives the size that the mask must have.
        may_be_empty: Accept a mask with nothing inside.

    Returns:
        (H, W) bool, original pixels, true inside; at least one pixel is, unless
        ``may_be_empty``.

    Raises:
        QueryError: If the image is missing or unreadable, has another size than the
            video, or has nothing inside.
    """
    path = Path(path)
    try:
        with Image.open(path) as opened:
            lossy = opened.format in ("JPEG", "MPO")
            values = np.asarray(ImageOps.exif_transpose(opened))
            has_alpha = opened.mode in ("RGBA", "LA")
    except FileNotFoundError as error:
        raise QueryError(f"{path}: no such file; give an image of the mask") from error
    except IMAGE_ERRORS as error:
        raise QueryError(f"{path}: is not an image that can be read; save the mask as png") from error
    mask = values >= 128 if lossy else values != 0
    if mask.ndim == 3:
        colour, alpha = (mask[..., :-1], mask[..., -1]) if has_alpha else (mask, np.True_)
        mask = colour.any(axis=-1) & alpha
    check_mask(mask, video, str(path), may_be_empty)
    return mask


def check_mask(mask: np.ndarray, video: Video, where: str, may_be_empty: bool = False) -> None:
    """Refuse a mask (H, W) of another size than the video, or with nothing inside.

    Raises:
        QueryError: Says so, after ``where``.
    """
    if mask.shape != video.size:
        height, width = video.size
        got = "x".join(str(side) for side in mask.shape[::-1])
        raise QueryError(f"{where}: is {got} pixels, but {video.source} is {width}x{height}; make them equal")
    if not mask.any() and not may_be_empty:
        raise QueryError(f"{where}: has nothing inside; paint the object with anything but 0")


def read_foreground(folder: Path, video: Video, size: Size, first_frames: int = 0) -> Tensor:
    """Read a folder of masks, one per frame, in the same order as a folder of frames.

    A mask may be empty, where the object is out of sight.

    Args:
        folder: Images of the video's size; non-zero pixels are foreground.
        video: Gives the number of frames and their size.
        size: (H, W) to resize the masks to.
        first_frames: Take this many images, for a video that was cut to its first frames; 0 for all.

    Returns:
        (T, H, W) bool.

    Raises:
        VideoError: If there is no such folder, not as many masks as frames, or all of them are empty.
        QueryError: If a mask cannot be read or has another size.
    """
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder; give the folder that holds the mask images directly")
    files = image_files(folder, first_frames)
    if len(files) != video.frame_count:
        raise VideoError(
            f"{folder}: has {len(files)} mask images, but {video.source} has {video.frame_count} frames; "
            "give one mask per frame"
        )
    masks = [
        interpolate(
            torch.from_numpy(read_mask(file, video, may_be_empty=True))[None, None].float(),
            size=size,
            mode="nearest-exact",  # of the cell's centre, as frames are resized
        )
        for file in files
    ]
    foreground = torch.cat(masks)[:, 0] > 0.5
    if not bool(foreground.any()):
        raise VideoError(f"{folder}: no mask has anything inside; paint the object with anything but 0")
    return foreground
