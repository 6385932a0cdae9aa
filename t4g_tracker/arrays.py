"""Frames, points and masks from arrays, checked before any work.

Ambiguous input is refused with a remedy; nothing is guessed silently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Video
from t4g_tracker.errors import QueryError, TrackerError, VideoError, one_line, warn
from t4g_tracker.inputs.mask_files import values_of_array
from t4g_tracker.inputs.query_table import QueryTable, check_in_video, refuse_fractions

ArrayLike = Any  # anything that numpy or torch can turn into an array

SMALLEST_SIDE_PX = 16


def as_video(frames: ArrayLike, fps: float = 24.0, name: str = "frames") -> Video:
    """Make a video from frames in memory.

    Args:
        frames: (T, H, W, 3) RGB array; or a torch tensor (T, 3, H, W) or (1, T, 3, H, W) on any device.
            uint8, or other numbers in 0..255; floats all in 0..1 are refused.
        fps: Frames a second, for files that are written.
        name: For messages and output folders.

    Returns:
        The video, with a copy of the frames, so that changes of the caller's array have no effect.

    Raises:
        VideoError: If shape, number type or range is wrong; the message gives the remedy.
    """
    values = _array(frames, name, VideoError, "give pixel values in 0..255")
    if isinstance(frames, Tensor):
        values = _channels_last(values, name)
    else:
        _check_array_shape(values, name)
    count, height, width, _ = values.shape
    if count < 2:
        raise VideoError(f"{name}: has {count} frame; tracking needs at least 2")
    if min(height, width) < SMALLEST_SIDE_PX:
        raise VideoError(
            f"{name}: frames of {width}x{height} are too small; each side needs {SMALLEST_SIDE_PX} px"
        )
    return Video(np.array(_as_uint8(values, name), order="C"), fps, name, name)


def as_queries(points: QueryPoints | ArrayLike, video: Video) -> QueryPoints:
    """Make query points from an array.

    Args:
        points: Query points; or (N, 3) frame, x, y; or (N, 2) x, y in frame 0. Original pixels, whole
            numbers at pixel centres. A leading axis of 1 is dropped.
        video: The video that they must lie in.

    Returns:
        N query points, named point-0, point-1, ... if they have no names.

    Raises:
        QueryError: If the points have another shape, look like fractions, or lie outside the video.
    """
    if isinstance(points, QueryPoints):
        frame, xy = points.frame.cpu().numpy(), points.xy.cpu().numpy()
        check_in_video(QueryTable(frame.astype(np.float64), xy.astype(np.float64)), video, in_file=False)
        return points
    if isinstance(points, str | Path):
        raise QueryError(f"points: {str(points)!r} is a path; read it by read_queries(path, video)")
    rows = _array(points, "points", QueryError, "give rows of frame, x, y (or x, y)").astype(np.float64)
    if rows.ndim == 3 and rows.shape[0] == 1:
        rows = rows[0]
    if rows.ndim != 2 or rows.shape[1] not in (2, 3) or not len(rows):
        raise QueryError(f"points: must be (N, 3) frame, x, y or (N, 2) x, y in frame 0, got {rows.shape}")
    frame, xy = rows[:, 0] if rows.shape[1] == 3 else np.zeros(len(rows)), rows[:, -2:]
    try:
        refuse_fractions(xy, video.size)
    except QueryError as error:
        raise QueryError(f"points: {error}") from None
    check_in_video(QueryTable(frame, xy), video, in_file=False)
    return QueryPoints(
        torch.from_numpy(frame.astype(np.int64)),
        torch.from_numpy(xy.astype(np.float32)),
        tuple(f"point-{index}" for index in range(len(rows))),
    )


def as_masks(masks: ArrayLike, video: Video, size: Size) -> Tensor:
    """Resize one mask a frame to the working size.

    Args:
        masks: (T, H, W) bool or whole numbers, True or not 0 inside; or probabilities in 0..1, at least a
            half inside, with a warning. The size of the video.
        video: T frames of (H, W).
        size: (H, W) of the result.

    Returns:
        (T, H, W) bool; a pixel is inside where the nearest pixel of the mask is.

    Raises:
        QueryError: If the shape does not fit the video, numbers are negative or above 1 and not whole, or
            nothing is inside.
    """
    given = _array(masks, "masks", QueryError, "give True or False for each pixel")
    try:
        numbers, soft = values_of_array(given)
    except QueryError as error:
        raise QueryError(f"masks: {error}") from None
    if soft:
        warn("masks: are probabilities; what is at least 0.5 is inside, so give bool to choose")
    values = torch.from_numpy(np.ascontiguousarray(numbers != 0))
    expected = (video.frame_count, *video.size)
    if tuple(values.shape) != expected:
        raise QueryError(f"masks: must be {expected}, one for each frame, got {tuple(values.shape)}")
    if not values.any():
        raise QueryError("masks: have nothing inside; mark the object with True")
    resized: Tensor = interpolate(values[:, None].float(), size=size, mode="nearest-exact")[:, 0] > 0.5
    return resized


def _array(values: ArrayLike, name: str, error: type[TrackerError], remedy: str) -> np.ndarray:
    """Convert the arrays, tensors and lists of a program to an array of numbers, or raise ``error``."""
    try:
        if isinstance(values, Tensor):
            plain = values.detach().cpu()
            half = plain.is_floating_point() and plain.dtype not in (torch.float32, torch.float64)
            array = (plain.float() if half else plain).numpy()
        else:
            array = np.asarray(values)
    except Exception as problem:  # other libraries' arrays may raise anything
        raise error(f"{name}: cannot be read as an array ({one_line(problem)}); {remedy}") from None
    if array.dtype.kind not in "biuf":
        raise error(f"{name}: must hold numbers, got {array.dtype}; {remedy}")
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise error(f"{name}: has masked values; {remedy}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise error(f"{name}: holds values that are not finite; {remedy}")
    return array


def _channels_last(frames: np.ndarray, name: str) -> np.ndarray:
    """Bring the frames of a tensor to (T, H, W, 3)."""
    if frames.ndim == 5 and frames.shape[0] != 1:
        raise VideoError(f"{name}: holds {frames.shape[0]} videos; give them one at a time")
    video = frames[0] if frames.ndim == 5 else frames
    if video.ndim == 4 and video.shape[1] == 3:
        return video.transpose(0, 2, 3, 1)
    if video.ndim == 4 and video.shape[3] == 3:
        return video
    raise VideoError(f"{name}: a tensor must be (T, 3, H, W) or (1, T, 3, H, W), got {frames.shape}")


def _check_array_shape(values: np.ndarray, name: str) -> None:
    """Refuse an array that is not (T, H, W, 3); the message shows how to convert it."""
    if values.ndim == 4 and values.shape[3] == 3:
        return
    remedy = ""
    if values.ndim == 4 and values.shape[1] == 3:
        remedy = "; these look channels-first: give frames.transpose(0, 2, 3, 1), or a torch tensor"
    elif values.ndim == 4 and values.shape[3] == 4:
        remedy = "; these have an alpha channel: give frames[..., :3]"
    elif values.ndim == 3 and values.shape[2] != 3:
        remedy = "; these look grey: give np.repeat(frames[..., None], 3, axis=3)"
    elif values.ndim == 5:
        remedy = "; one video at a time: give frames[0]"
    raise VideoError(f"{name}: must be (T, H, W, 3), got {values.shape}{remedy}")


def _as_uint8(values: np.ndarray, name: str) -> np.ndarray:
    """Convert pixel values to uint8; refuse those whose type or range leaves their meaning open."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "b":
        raise VideoError(f"{name}: must be uint8, got {values.dtype}; give pixel values in 0..255")
    least, most = float(values.min()), float(values.max())
    described = f"{values.dtype} in {least:g}..{most:g}"
    if least < 0 or most > 255:
        raise VideoError(f"{name}: must be uint8, got {described}; bring it to 0..255")
    if values.dtype.kind == "f" and most <= 1:
        raise VideoError(
            f"{name}: must be uint8, got {described}; if 1 is white, give (frames * 255).round() as uint8"
        )
    return np.round(values).astype(np.uint8)
