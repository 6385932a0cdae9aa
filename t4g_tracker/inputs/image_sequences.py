"""Frames stored as images: a folder with one image per frame, or a TIFF or WebP file with many pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from t4g_tracker.coordinates import Size
from t4g_tracker.errors import VideoError, warn
from t4g_tracker.inputs.bit_depths import EightBitFrames
from t4g_tracker.inputs.film_images import FILM_SUFFIXES
from t4g_tracker.inputs.frame_names import describe_gaps, order_names
from t4g_tracker.inputs.frame_times import Timing, timing_of
from t4g_tracker.inputs.images import IMAGE_ERRORS, current_rgb, opened_image, read_picture
from t4g_tracker.inputs.input_files import refuse_special
from t4g_tracker.inputs.reading import Reading
from t4g_tracker.storage.long_arrays import LongArrays

FrameCheck = Callable[[int, Size], None]  # called with the number of frames to read and their (H, W)

FOLDER_FPS = 24.0  # images record no frame rate
SEQUENCE_SUFFIXES = (".tif", ".tiff", ".webp")  # FFmpeg decodes one picture of these files, or none

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", *FILM_SUFFIXES)
_UNREAD_KINDS = (  # of pictures
    "arw avif cin cr2 cr3 dng gif hdr heic heif j2k jp2 jxl nef orf pgm pic pnm ppm psb psd raf raw rw2 sgi "
    "tga"
)
_DEEP_SUFFIXES = (".png", ".tif", ".tiff")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mts", ".webm", ".wmv")


@dataclass(frozen=True)
class ListedImages:
    """The images of a folder, in the order of their frames."""

    files: tuple[Path, ...]
    numbers: tuple[Fraction, ...] | None  # of each file; None if no number alone tells the names apart
    doubt: str | None  # why the order may be wrong, to put after the folder's name
    unread: tuple[str, ...]  # names of pictures of kinds that are not read

    @property
    def first_number(self) -> int | None:
        """The number in the name of the first, such as 1001 in shot.1001.png; None if it is not whole."""
        return int(self.numbers[0]) if self.numbers and self.numbers[0].denominator == 1 else None


def list_images(folder: Path, suffixes: Collection[str] = FRAME_SUFFIXES) -> ListedImages:
    """List the images of a folder, without hidden ones, in the order of their frames.

    Args:
        folder: The folder that holds the files directly.
        suffixes: Lower-case extensions of the images.

    Raises:
        VideoError: If the folder cannot be read, a name belongs to no plain file, two files have the
            number of one frame, or the order cannot be told.
    """
    try:
        entries = [file for file in folder.iterdir() if file.name[0] != "."]
    except OSError as error:
        raise VideoError(f"{folder}: cannot be read ({error.strerror}); give a folder of images") from error
    images = [file for file in entries if file.suffix.lower() in suffixes]
    for file in images:
        refuse_special(file, VideoError, "restore it, or take it out of the folder")
    ordered = order_names([file.name for file in images], str(folder))
    others = {*FRAME_SUFFIXES, *(f".{kind}" for kind in _UNREAD_KINDS.split())}.difference(suffixes)
    unread = sorted(file.name for file in entries if file.suffix.lower() in others)
    return ListedImages(
        tuple(folder / name for name in ordered.names), ordered.numbers, ordered.doubt, tuple(unread)
    )


def image_files(folder: Path) -> list[Path]:
    """List the files of ``list_images`` alone."""
    return list(list_images(folder).files)


def warn_of_doubts(folder: Path, images: ListedImages, part: slice) -> None:
    """Warn if the order of a folder's images is doubtful, numbers are missing, or pictures are not read.

    Args:
        folder: Begins the messages.
        images: From ``list_images``.
        part: Which of them are read.
    """
    if images.doubt is not None:
        warn(
            f"{folder}: {images.doubt}; its files are read in the order {images.files[0].name} to "
            f"{images.files[-1].name}, rename them if that is wrong"
        )
    gaps = None if images.numbers is None else describe_gaps(images.numbers[part])
    if gaps is not None:
        warn(f"{folder}: {gaps}; frames are counted as if none were missing, so later numbers are too low")
    if images.unread:
        warn(f"{folder}: {_not_read(images)}; convert them to png if they are frames")


def _refuse_false_numbers(folder: Path, images: ListedImages, start_frame: int, end: int | None) -> None:
    """Raise VideoError if frames are counted from the first file's number, but later ones leave some out.

    Args:
        folder: Begins the message.
        images: From ``list_images``.
        start_frame: The number that the user gives to the first frame; 0 counts frames, not numbers.
        end: How many of the files matter; None for all.
    """
    if not start_frame or start_frame != images.first_number or images.numbers is None:
        return
    gaps = describe_gaps(images.numbers[:end])
    if gaps is not None:
        raise VideoError(
            f"{folder}: {gaps}, so frames counted from {start_frame} would have other numbers than their "
            "files; put copies of neighbours in the gaps, or leave out the start frame and count from 0"
        )


def _not_read(images: ListedImages) -> str:
    kinds = ", ".join(sorted({Path(name).suffix.lower()[1:] for name in images.unread}))
    return f"has {len(images.unread)} pictures that are not read ({kinds}), such as {images.unread[0]}"


def read_folder(
    folder: Path,
    first_frames: int = 0,
    skip: int = 0,
    check: FrameCheck | None = None,
    start_frame: int = 0,
    arrays: LongArrays | None = None,
) -> Reading:
    """Read a folder of images, or some of them, as frames (H, W, 3) uint8 RGB of one size.

    Args:
        folder: The folder that holds the images directly.
        first_frames: How many to read after those that are skipped; 0 for all.
        skip: How many to leave out before.
        check: Called once, when the first is read: it may refuse what does not fit into memory.
        start_frame: The number that the user gives to the folder's first frame.
        arrays: Where frames are held; None for memory, whatever its size.

    Raises:
        VideoError: If there are no images, one cannot be read, they differ in size, or their numbers
            leave some out and ``start_frame`` counts by them.
    """
    images = list_images(folder)
    if not images.files:
        found = _not_read(images) if images.unread else "holds no frames"
        videos = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
        if videos:
            raise VideoError(f"{folder}: is a folder of videos, such as {videos[0]}; give one of them")
        raise VideoError(
            f"{folder}: {found}; give a folder that holds them directly, as "
            f"{', '.join(suffix[1:] for suffix in FRAME_SUFFIXES)}"
        )
    part = slice(skip, skip + first_frames if first_frames else None)
    files = images.files[part]
    _refuse_false_numbers(folder, images, start_frame, part.stop)
    warn_of_doubts(folder, images, part)
    frames, notes, pixel_aspect = EightBitFrames(arrays), set[str | None](), 1.0
    for file in files:
        picture = read_picture(file)
        notes.add(picture.note)
        frames.add(picture.rgb)
        pixel_aspect = picture.pixel_aspect
        if check is not None and len(frames.pictures) == 1:
            check(len(files), picture.rgb.shape[:2])
        first, last = frames.pictures[0], frames.pictures[-1]
        if first.shape != last.shape:
            raise VideoError(
                f"{folder}: frames differ in size, {files[0].name} is {width_by_height(first)} and "
                f"{file.name} is {width_by_height(last)}; make all frames one size"
            )
    for note in sorted(filter(None, notes)):
        warn(f"{folder}: {note}")
    others = images.files[:skip] + images.files[skip + len(files) :]
    pictures = frames.finished(folder, _deep_pictures(others))
    return Reading(pictures, skip, Timing(FOLDER_FPS), pixel_aspect, images.first_number)


def _deep_pictures(files: Iterable[Path]) -> Iterator[np.ndarray]:
    """Read the files that may hold more than 8 bits, (H, W, 3) each, but those that cannot be read."""
    for file in files:
        if file.suffix.lower() in _DEEP_SUFFIXES:
            with suppress(VideoError):
                yield read_picture(file).rgb


def read_image_sequence(
    path: Path,
    first_frames: int = 0,
    skip: int = 0,
    check: FrameCheck | None = None,
    arrays: LongArrays | None = None,
) -> Reading:
    """Read the pictures of a multi-page TIFF or an animated WebP.

    Args:
        path: The file.
        first_frames: How many pictures to read after those that are skipped; 0 for all.
        skip: How many to leave out before.
        check: Called once, before they are read: it may refuse what does not fit into memory.
        arrays: Where frames are held; None for memory, whatever its size.

    Returns:
        Frames (H, W, 3) uint8 RGB of one size, upright, and when they are shown. A WebP has durations; a
        TIFF has none and gets the rate of a folder.

    Raises:
        VideoError: If the file is cut short, damaged or not an image, or its pictures differ in size.
    """
    frames, starts_ms = EightBitFrames(arrays), [0.0]
    remedy = "it is cut short, damaged or of another kind, so copy or export it again"
    with opened_image(path, VideoError, remedy) as opened:
        last = getattr(opened, "n_frames", 1)
        pages = range(skip, min(last, skip + first_frames) if first_frames else last)
        size = opened.height, opened.width
    if check is not None:
        check(len(pages), size)
    with opened_image(path, VideoError, remedy) as opened:
        for page in pages:
            opened.seek(page)
            frames.add(current_rgb(opened, path, page))
            starts_ms.append(starts_ms[-1] + opened.info.get("duration", 0))
        pictures = frames.finished(path, _pages(opened, path, set(range(last)).difference(pages)))
    sizes = dict.fromkeys(width_by_height(frame) for frame in frames.pictures)
    if len(sizes) > 1:
        raise VideoError(f"{path}: its pictures differ in size ({', '.join(sizes)}); make all one size")
    end_ms = starts_ms.pop()
    if not end_ms:
        return Reading(pictures, skip, Timing(FOLDER_FPS))
    timing = timing_of([start / 1000 for start in starts_ms], 1000 * len(pictures) / end_ms, 0.001)
    return Reading(pictures, skip, timing)


def _pages(opened: Image.Image, path: Path, pages: Iterable[int]) -> Iterator[np.ndarray]:
    """Read pages of a TIFF, (H, W, 3) each, but those that cannot be read."""
    for page in pages:
        with suppress(VideoError, *IMAGE_ERRORS):
            opened.seek(page)
            yield current_rgb(opened, path, page)


def width_by_height(frame: np.ndarray) -> str:
    """Write the size of a frame (H, W, 3) for messages."""
    return f"{frame.shape[1]}x{frame.shape[0]}"
