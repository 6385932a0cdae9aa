"""Frames stored as images: a folder with one image per frame, or a TIFF or WebP file with many pictures.

A folder is read with Pillow. imageio's reader, built on Pillow too, mirrors the colours of a palette
image instead of its columns if EXIF orientation mirrors the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageOps

from t4g_tracker.errors import VideoError, warn
from t4g_tracker.frame_names import describe_gaps, order_names
from t4g_tracker.images import refuse_special_file

FOLDER_FPS = 24.0  # images record no frame rate
SEQUENCE_SUFFIXES = (".tif", ".tiff", ".webp")  # FFmpeg decodes one picture of these files, or none
IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # Pillow's on bad files

_FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class ListedImages:
    """The images of a folder, in the order of their frames."""

    files: tuple[Path, ...]
    numbers: tuple[Fraction, ...] | None  # of each file; None if no number alone tells the names apart
    doubts: tuple[str, ...]  # what may be wrong, each to put after the folder's name


def list_images(folder: Path) -> ListedImages:
    """List the jpg and png files of a folder, without hidden ones, in the order of their frames.

    Args:
        folder: The folder that holds the files directly.

    Raises:
        VideoError: If a name belongs to no plain file, two files have the number of one frame, or the
            order cannot be told.
    """
    entries = [file for file in folder.iterdir() if file.name[0] != "."]
    images = [file for file in entries if file.suffix.lower() in _FRAME_SUFFIXES]
    for file in images:
        refuse_special_file(file, VideoError, "restore it, or take it out of the folder")
    ordered = order_names([file.name for file in images], str(folder))
    return ListedImages(
        tuple(folder / name for name in ordered.names),
        ordered.numbers,
        () if ordered.doubt is None else (ordered.doubt,),
    )


def image_files(folder: Path) -> list[Path]:
    """List the files of ``list_images`` alone."""
    return list(list_images(folder).files)


def first_file_number(folder: Path) -> int | None:
    """Read the frame number of a folder's first image from its name, such as 1001 from shot.1001.png.

    Returns:
        The number; None if the images' names differ in no whole number alone, or there are none.

    Raises:
        VideoError: As ``list_images``.
    """
    numbers = list_images(folder).numbers
    return int(numbers[0]) if numbers and numbers[0].denominator == 1 else None


def warn_of_doubts(folder: Path, images: ListedImages, part: slice) -> None:
    """Warn if the order of a folder's images is doubtful, or numbers are missing among those read.

    Args:
        folder: Begins the messages.
        images: From ``list_images``.
        part: Which of them are read.
    """
    for doubt in images.doubts:
        warn(
            f"{folder}: {doubt}; its files are read in the order {images.files[0].name} to "
            f"{images.files[-1].name}, rename them if that is wrong"
        )
    gaps = None if images.numbers is None else describe_gaps(images.numbers[part])
    if gaps is not None:
        warn(f"{folder}: {gaps}; frames are counted as if none were missing")


def read_folder(folder: Path, first_frames: int = 0, skip: int = 0) -> list[np.ndarray]:
    """Read a folder of images, or some of them, as frames (H, W, 3) uint8 RGB of one size.

    Args:
        folder: The folder that holds the images directly.
        first_frames: How many to read after those that are skipped; 0 for all.
        skip: How many to leave out before.

    Raises:
        VideoError: If there are no images, one cannot be read, or they differ in size.
    """
    images = list_images(folder)
    if not images.files:
        raise VideoError(f"{folder}: holds no jpg or png frames; give the folder that holds them directly")
    part = slice(skip, skip + first_frames if first_frames else None)
    files = images.files[part]
    warn_of_doubts(folder, images, part)
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
