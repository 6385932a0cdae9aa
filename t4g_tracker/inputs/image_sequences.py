"""Frames stored as images: a folder with one image per frame, or a TIFF or WebP file with many pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from t4g_tracker.coordinates import Size
from t4g_tracker.errors import VideoError, warn
from t4g_tracker.inputs.film_images import FILM_SUFFIXES
from t4g_tracker.inputs.frame_names import describe_gaps, order_names
from t4g_tracker.inputs.frame_times import Timing, timing_of
from t4g_tracker.inputs.images import current_rgb, opened_image, read_picture
from t4g_tracker.inputs.input_files import refuse_special

FrameCheck = Callable[[int, Size], None]  # called with the number of frames to read and their (H, W)

FOLDER_FPS = 24.0  # images record no frame rate
SEQUENCE_SUFFIXES = (".tif", ".tiff", ".webp")  # FFmpeg decodes one picture of these files, or none

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", *FILM_SUFFIXES)
_UNREAD_SUFFIXES = (  # pictures of other kinds
    *(
        ".arw",
        ".avif",
        ".cin",
        ".cr2",
        ".cr3",
        ".dng",
        ".gif",
        ".hdr",
        ".heic",
        ".heif",
        ".j2k",
        ".jp2",
        ".jxl",
    ),
    *(".nef", ".orf", ".pgm", ".pic", ".pnm", ".ppm", ".psb", ".psd", ".raf", ".raw", ".rw2", ".sgi", ".tga"),
)
_RANGES = (8, 10, 12, 14, 16)  # bits that cameras give


@dataclass(frozen=True)
class ListedImages:
    """The images of a folder, in the order of their frames."""

    files: tuple[Path, ...]
    numbers: tuple[Fraction, ...] | None  # of each file; None if no number alone tells the names apart
    doubt: str | None  # why the order may be wrong, to put after the folder's name
    unread: tuple[str, ...]  # names of pictures of kinds that are not read


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
    others = {*FRAME_SUFFIXES, *_UNREAD_SUFFIXES}.difference(suffixes)
    unread = sorted(file.name for file in entries if file.suffix.lower() in others)
    return ListedImages(
        tuple(folder / name for name in ordered.names), ordered.numbers, ordered.doubt, tuple(unread)
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
        warn(f"{folder}: {gaps}; frames are counted as if none were missing")
    if images.unread:
        warn(f"{folder}: {_not_read(images)}; convert them to png if they are frames")


def _not_read(images: ListedImages) -> str:
    kinds = ", ".join(sorted({Path(name).suffix.lower()[1:] for name in images.unread}))
    return f"has {len(images.unread)} pictures that are not read ({kinds}), such as {images.unread[0]}"


def read_folder(
    folder: Path, first_frames: int = 0, skip: int = 0, check: FrameCheck | None = None
) -> list[np.ndarray]:
    """Read a folder of images, or some of them, as frames (H, W, 3) uint8 RGB of one size.

    Args:
        folder: The folder that holds the images directly.
        first_frames: How many to read after those that are skipped; 0 for all.
        skip: How many to leave out before.
        check: Called once, when the first is read: it may refuse what does not fit into memory.

    Raises:
        VideoError: If there are no images, one cannot be read, or they differ in size.
    """
    images = list_images(folder)
    if not images.files:
        found = _not_read(images) if images.unread else "holds no frames"
        raise VideoError(
            f"{folder}: {found}; give a folder that holds them directly, as "
            f"{', '.join(suffix[1:] for suffix in FRAME_SUFFIXES)}"
        )
    part = slice(skip, skip + first_frames if first_frames else None)
    files = images.files[part]
    warn_of_doubts(folder, images, part)
    frames, notes = _Frames(), set[str | None]()
    for file in files:
        picture = read_picture(file)
        notes.add(picture.note)
        frames.add(picture.rgb)
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
    return frames.finished(folder)


def read_image_sequence(
    path: Path, first_frames: int = 0, skip: int = 0, check: FrameCheck | None = None
) -> tuple[list[np.ndarray], Timing]:
    """Read the pictures of a multi-page TIFF or an animated WebP.

    Args:
        path: The file.
        first_frames: How many pictures to read after those that are skipped; 0 for all.
        skip: How many to leave out before.
        check: Called once, before they are read: it may refuse what does not fit into memory.

    Returns:
        Frames (H, W, 3) uint8 RGB of one size, upright, and when they are shown. A WebP has durations; a
        TIFF has none and gets the rate of a folder.

    Raises:
        VideoError: If the file is cut short, damaged or not an image, or its pictures differ in size.
    """
    frames, starts_ms = _Frames(), [0.0]
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
    sizes = dict.fromkeys(width_by_height(frame) for frame in frames.pictures)
    if len(sizes) > 1:
        raise VideoError(f"{path}: its pictures differ in size ({', '.join(sizes)}); make all one size")
    pictures, end_ms = frames.finished(path), starts_ms.pop()
    if not end_ms:
        return pictures, Timing(FOLDER_FPS)
    return pictures, timing_of([start / 1000 for start in starts_ms], 1000 * len(pictures) / end_ms, 0.001)


class _Frames:
    """Frames of 8 bits, from pictures of 8 or of up to 16.

    Of deep pictures, all lose as many low bits as the largest value of all demands, so that a camera's 12
    bits, stored in 16, do not become black. When a larger value comes, earlier frames lose further
    bits: dropping some and then others is dropping both, so that no deep picture has to be kept.
    """

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []  # (H, W, 3) uint8
        self._deep: list[int] = []  # which of them had more bits
        self._largest = 0

    def add(self, picture: np.ndarray) -> None:
        """Append a picture (H, W, 3) of uint8 or uint16."""
        if picture.dtype == np.uint16:
            before = self._bits()
            self._largest = max(self._largest, int(picture.max()))
            for index in self._deep:
                self.pictures[index] >>= self._bits() - before
            self._deep.append(len(self.pictures))
            picture = (picture >> (self._bits() - 8)).astype(np.uint8)
        self.pictures.append(picture)

    def finished(self, path: Path) -> list[np.ndarray]:
        """Hand over all frames; warn if values of 16 bits were taken for fewer.

        Raises:
            VideoError: If it cannot be told how bright these are beside pictures of 8 bits.
        """
        if self._deep and self._bits() < 16:
            if len(self._deep) < len(self.pictures):
                raise VideoError(f"{path}: holds pictures of 8 and of 16 bits; save all with 8 bits")
            warn(
                f"{path}: the largest value of its 16-bit pictures is {self._largest}, so they are read as "
                f"{self._bits()}-bit ones; save them with 8 bits if that is too bright"
            )
        return self.pictures

    def _bits(self) -> int:
        return next(bits for bits in _RANGES if self._largest < 2**bits)


def width_by_height(frame: np.ndarray) -> str:
    """Write the size of a frame (H, W, 3) for messages."""
    return f"{frame.shape[1]}x{frame.shape[0]}"
