"""Masks of an object: one as an image, or one per frame so that training pairs can favour the object."""

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
from t4g_tracker.image_sequences import list_images, warn_of_doubts
from t4g_tracker.images import IMAGE_ERRORS


def read_mask(path: str | Path, video: Video, may_be_empty: bool = False) -> np.ndarray:
    """Read which pixels belong to an object.

    Any image will do: a pixel is inside if it is not zero. In a palette image, such as those
    of DAVIS, the index counts, not its colour. If there is an alpha channel, it must be above
    zero too. JPEG blurs zeros, so there the limit is half brightness.

    Args:
        path: The image.
        video: The mask must have its size.
        may_be_empty: Accept a mask with nothing inside.

    Returns:
        (H, W) bool, original pixels, true inside; at least one pixel is, unless
        ``may_be_empty``.

    Raises:
        QueryError: If the image is missing or unreadable, differs from the video in size,
            or has nothing inside.
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
    """Raise QueryError for a mask (H, W) of another size than the video, or with nothing inside.

    The message begins with ``where``.
    """
    if mask.shape != video.size:
        height, width = video.size
        got = "x".join(str(side) for side in mask.shape[::-1])
        raise QueryError(f"{where}: is {got} pixels, but {video.source} is {width}x{height}; make them equal")
    if not mask.any() and not may_be_empty:
        raise QueryError(f"{where}: has nothing inside; paint the object with anything but 0")


def read_foreground(folder: Path, video: Video, size: Size, first_frames: int = 0, skip: int = 0) -> Tensor:
    """Read a folder of masks, one per frame, in the same order as a folder of frames.

    A mask may be empty: the object is out of sight then.

    Args:
        folder: Images of the video's size; non-zero pixels are foreground.
        video: The masks must have the number and size of its frames.
        size: (H, W) to resize the masks to.
        first_frames: Read this many images, for a video cut to some of its frames; 0 for all.
        skip: Leave out this many images before.

    Returns:
        (T, H, W) bool.

    Raises:
        VideoError: If the folder is missing, masks and frames differ in number, or all masks are empty.
        QueryError: If a mask cannot be read or has another size.
    """
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder; give the folder that holds the mask images directly")
    images = list_images(folder)
    part = slice(skip, skip + first_frames if first_frames else None)
    files = images.files[part]
    if len(files) != video.frame_count:
        raise VideoError(
            f"{folder}: has {len(files)} mask images, but {video.source} has {video.frame_count} frames; "
            "give one mask per frame"
        )
    warn_of_doubts(folder, images, part)
    masks = [
        interpolate(
            torch.from_numpy(read_mask(file, video, may_be_empty=True))[None, None].float(),
            size=size,
            mode="nearest-exact",  # outer edges in place, as when frames are resized
        )
        for file in files
    ]
    foreground = torch.cat(masks)[:, 0] > 0.5
    if not bool(foreground.any()):
        raise VideoError(f"{folder}: no mask has anything inside; paint the object with anything but 0")
    return foreground
