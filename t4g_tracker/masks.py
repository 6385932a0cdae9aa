"""Foreground masks: one image per frame, so that training pairs can favour what matters."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import VideoError
from t4g_tracker.queries import read_mask

MASK_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_foreground(folder: Path, video: Video, size: Size) -> Tensor:
    """Read a folder of masks, one per frame in the order of their names.

    Args:
        folder: Images of the video's size; non-zero pixels are foreground.
        video: Gives the number of frames and their size.
        size: (H, W) the masks are wanted at.

    Returns:
        (T, H, W) bool.

    Raises:
        VideoError: If there are not as many masks as frames.
        QueryError: If a mask cannot be read or has another size.
    """
    files = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in MASK_SUFFIXES)
    if len(files) != video.frame_count:
        raise VideoError(
            f"{folder}: has {len(files)} mask images, but {video.source} has {video.frame_count} frames; "
            "give one mask per frame"
        )
    masks = [
        interpolate(torch.from_numpy(read_mask(file, video))[None, None].float(), size=size, mode="nearest")
        for file in files
    ]
    return torch.cat(masks)[:, 0] > 0.5
