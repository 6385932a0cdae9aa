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
from t4g_tracker.video import image_files


def read_foreground(folder: Path, video: Video, size: Size, first_frames: int = 0) -> Tensor:
    """Read a folder of masks, one per frame, in the same order as a folder of frames.

    A mask may be empty, where the object is out of sight.

    Args:
        folder: Images of the video's size; non-zero pixels are foreground.
        video: Gives the number of frames and their size.
        size: (H, W) the masks are wanted at.
        first_frames: Take the first so many images, for a video that was cut to them; 0 takes all.

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
