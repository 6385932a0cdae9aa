"""Frames stored as images: a folder with one image per frame, or a TIFF or WebP file with many pictures.

A folder is read with Pillow. imageio's reader, built on Pillow too, mirrors the colours of a palette
image instead of its columns if EXIF orientation mirrors the picture.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageOps

from t4g_tracker.errors import VideoError

FOLDER_FPS = 24.0  # images record no frame rate
SEQUENCE_SUFFIXES = (".tif", ".tiff", ".webp")  # FFmpeg decodes one picture of these files, or none
IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # Pillow's on bad files

_FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


def image_files(folder: Path, first: int = 0) -> list[Path]:
    """List the jpg and png files of a folder, without hidden ones, in natural order: 2 before 10.

    Args:
        folder: The folder that holds the files directly.
        first: How many to list; 0 for all.
    """
    images = (file for file in folder.iterdir() if file.suffix.lower() in _FRAME_SUFFIXES)
    files = sorted((file for file in images if file.name[0] != "." and file.is_file()), key=_natural_order)
    return files[: first or None]


def _natural_order(file: Path) -> tuple[list[str | int], str]:
    """Make a sorting key that compares digits as numbers."""
    parts = re.split(r"(\d+)", file.name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], file.name


def read_folder(folder: Path, first_frames: int = 0, skip: int = 0) -> list[np.ndarray]:
    """Read a folder of images, or some of them, as frames (H, W, 3) uint8 RGB of one size.

    Args:
        folder: The folder that holds the images directly.
        first_frames: How many to read after those that are skipped; 0 for all.
        skip: How many to leave out before.

    Raises:
        VideoError: If there are no images, one cannot be read, or they differ in size.
    """
    files = image_files(folder, skip + first_frames if first_frames else 0)
    if not files:
        raise VideoError(f"{folder}: holds no jpg or png frames; give the folder that holds them directly")
    files = files[skip:]
    frames: list[np.ndarray] = []
    for file in files:
        frames.append(_read_image(file))
        if frames[-1].shape != frames[0].shape:
            raise VideoError(
                f"{folder}: frames differ in size, {files[0].name} is {width_by_height(frames[0])} and "
                f"{file.name} is {width_by_height(frames[-1])}; make all frames one size"
            )
    return frames


def _read_image(file: Path) -> np.ndarray:
    """Read one image as (H, W, 3) uint8 RGB, upright."""
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):
                return _deep_grey(np.asarray(image))
            if "transparency" in image.info:
                image = image.convert("RGBA")
            return np.asarray(image.convert("RGB"))
    except IMAGE_ERRORS as error:
        raise VideoError(
            f"{file}: is not an image that can be read; replace it or remove it from the folder"
        ) from error


def _deep_grey(values: np.ndarray) -> np.ndarray:
    """Convert 16-bit grey (H, W), which Pillow would clip at 255, to (H, W, 3) uint8."""
    grey = (values >> 8).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def read_image_sequence(path: Path, first_frames: int = 0, skip: int = 0) -> tuple[list[np.ndarray], float]:
    """Read the pictures of a multi-page TIFF or an animated WebP.

    Args:
        path: The file.
        first_frames: How many pictures to read after those that are skipped; 0 for all.
        skip: How many to leave out before.

    Returns:
        Frames (H, W, 3) uint8 RGB of one size, and the mean rate in frames a second. A WebP has
        durations; a TIFF has none and gets the rate of a folder.

    Raises:
        VideoError: If the file is cut short, damaged or not an image, or its pictures differ in size.
    """
    frames: list[np.ndarray] = []
    milliseconds = 0.0
    try:
        with iio.imopen(path.absolute(), "r", plugin="pillow") as opened:
            deep = opened.metadata(index=0)["mode"].startswith("I")
            pictures = opened.iter(mode=None if deep else "RGB")
            wanted = islice(enumerate(pictures), skip, skip + first_frames if first_frames else None)
            for index, picture in wanted:
                frames.append(_deep_grey(picture) if deep else picture)
                milliseconds += opened.metadata(index=index).get("duration", 0)
    except (*IMAGE_ERRORS, TypeError) as error:
        raise VideoError(
            f"{path}: cannot be read as {path.suffix[1:]}, the file is cut short, damaged or of another "
            "kind; copy or export it again"
        ) from error
    sizes = dict.fromkeys(width_by_height(frame) for frame in frames)
    if len(sizes) > 1:
        raise VideoError(f"{path}: its pictures differ in size ({', '.join(sizes)}); make all one size")
    return frames, 1000 * len(frames) / milliseconds if milliseconds else FOLDER_FPS


def width_by_height(frame: np.ndarray) -> str:
    """Write the size of a frame (H, W, 3) for messages."""
    return f"{frame.shape[1]}x{frame.shape[0]}"
