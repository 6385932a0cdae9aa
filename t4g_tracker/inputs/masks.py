"""Masks of an object: one as an image, or one per frame so that training pairs can favour the object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import QueryError, VideoError, warn
from t4g_tracker.inputs.image_sequences import list_images, warn_of_doubts
from t4g_tracker.inputs.mask_files import MASK_SUFFIXES, read_mask_values
from t4g_tracker.inputs.mask_objects import (
    VOID,
    LabelledMask,
    Name,
    distinct,
    label_objects,
    listed,
    written_name,
)


def read_mask(
    path: str | Path, video: Video, may_be_empty: bool = False, mask_object: Name | None = None
) -> np.ndarray:
    """Read which pixels belong to an object.

    Any image will do, or a npy file of (H, W): a pixel is inside if it is not zero. In a palette image,
    such as those of DAVIS, the index counts, not its colour; index 255 beside others means "not
    annotated" there and is outside. What is more transparent than not is outside. Lossy compression and
    soft edges blur values: there, a pixel is inside if it is nearer to a colour of an object than to black.
    Of several objects all are inside, with a warning, unless one is chosen.

    Args:
        path: The image.
        video: The mask must have its size.
        may_be_empty: Accept a mask with nothing inside, or without the object.
        mask_object: Which object: its palette index, grey value or index in the palette of DAVIS, or its
            colour as R, G, B in 0..255. None for all.

    Returns:
        (H, W) bool, original pixels, true inside; at least one pixel is, unless
        ``may_be_empty``.

    Raises:
        QueryError: If the image is missing, unreadable or a photograph, differs from the video in size,
            has nothing inside, or does not have the object.
    """
    labelled = _read(Path(path), video)
    inside = labelled.inside(mask_object)
    if labelled.objects and not inside.any() and not may_be_empty:
        raise QueryError(
            f"{path}: has no object {written_name(mask_object)}; it has {listed(labelled.objects)}"
        )
    check_mask(inside, video, str(path), may_be_empty)
    _warn_of_objects(str(path), [labelled], mask_object)
    return inside


def _read(path: Path, video: Video) -> LabelledMask:
    """Read one mask of the video's size, and tell its objects apart."""
    stored = read_mask_values(path)
    _check_size(stored.values, video, str(path))
    try:
        return label_objects(stored)
    except ValueError as error:
        raise QueryError(f"{path}: {error}") from error


def _warn_of_objects(where: str, masks: Sequence[LabelledMask], mask_object: Name | None) -> None:
    """Warn once of what was decided for the pixels of one or many masks."""
    if any(mask.palette is not None and mask.palette[:1].any() for mask in masks):
        warn(
            f"{where}: its palette index 0, which is outside, is not black; check that indexes name the "
            "objects, or save the mask without palette"
        )
    if any(mask.soft for mask in masks):
        warn(f"{where}: has soft edges; what is at least half an object's colour is inside it")
    if mask_object is not None:
        return
    objects = distinct(masks)
    if len(objects) > 1:
        warn(
            f"{where}: has several objects, {listed(objects)}, and all are inside; "
            "choose one with --mask-object"
        )
    if any(mask.void for mask in masks):
        warn(
            f"{where}: its palette index {VOID} is outside, since in PASCAL VOC and DAVIS it means not "
            f"annotated; --mask-object {VOID} takes it"
        )


def check_mask(mask: np.ndarray, video: Video, where: str, may_be_empty: bool = False) -> None:
    """Raise QueryError for a mask (H, W) of another size than the video, or with nothing inside.

    The message begins with ``where``.
    """
    _check_size(mask, video, where)
    if not mask.any() and not may_be_empty:
        raise QueryError(f"{where}: has nothing inside; paint the object with anything but 0")


def _check_size(mask: np.ndarray, video: Video, where: str) -> None:
    if mask.shape[:2] != video.size:
        height, width = video.size
        got = "x".join(str(side) for side in mask.shape[1::-1])
        raise QueryError(f"{where}: is {got} pixels, but {video.source} is {width}x{height}; make them equal")


def read_foreground(
    folder: Path,
    video: Video,
    size: Size,
    first_frames: int = 0,
    skip: int = 0,
    mask_object: Name | None = None,
) -> Tensor:
    """Read a folder of masks, one per frame, in the same order as a folder of frames.

    A mask may be empty: the object is out of sight then.

    Args:
        folder: Images of the video's size, as for ``read_mask``.
        video: The masks must have the number and size of its frames.
        size: (H, W) to resize the masks to.
        first_frames: Read this many images, for a video cut to some of its frames; 0 for all.
        skip: Leave out this many images before.
        mask_object: As for ``read_mask``.

    Returns:
        (T, H, W) bool.

    Raises:
        VideoError: If the folder is missing, masks and frames differ in number, or all masks are empty.
        QueryError: If a mask cannot be read or has another size.
    """
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder; give the folder that holds the mask images directly")
    images = list_images(folder, MASK_SUFFIXES)
    part = slice(skip, skip + first_frames if first_frames else None)
    files = images.files[part]
    if len(files) != video.frame_count:
        raise VideoError(
            f"{folder}: has {len(files)} mask images, but {video.source} has {video.frame_count} frames; "
            "give one mask per frame"
        )
    warn_of_doubts(folder, images, part)
    masks, seen = [], []
    for file in files:
        labelled = _read(file, video)
        inside = torch.from_numpy(labelled.inside(mask_object))[None, None].float()
        # Outer edges in place, as when frames are resized.
        masks.append(interpolate(inside, size=size, mode="nearest-exact")[0, 0] > 0.5)
        seen.append(replace(labelled, labels=np.empty((0, 0), np.int64)))
    foreground = torch.stack(masks)
    if not bool(foreground.any()):
        if mask_object is not None and (objects := distinct(seen)):
            raise VideoError(
                f"{folder}: no mask has the object {written_name(mask_object)}; they have {listed(objects)}"
            )
        raise VideoError(f"{folder}: no mask has anything inside; paint the object with anything but 0")
    _warn_of_objects(str(folder), seen, mask_object)
    return foreground
