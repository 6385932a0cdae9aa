"""Reading a video, a file or a folder of frames, as RGB frames of the original size."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t4g_tracker.coordinates import Size, resize_frames
from t4g_tracker.datatypes import Empty, Video
from t4g_tracker.errors import VideoError
from t4g_tracker.inputs.image_sequences import (
    FRAME_SUFFIXES,
    SEQUENCE_SUFFIXES,
    read_folder,
    read_image_sequence,
)
from t4g_tracker.inputs.input_files import refuse_special
from t4g_tracker.inputs.reading import Reading
from t4g_tracker.inputs.video_files import FrameBytes, read_video_file
from t4g_tracker.inputs.video_streams import warn_of_aspect
from t4g_tracker.memory import check_memory, frames_bytes, out_of_memory
from t4g_tracker.storage.files import safe_name
from t4g_tracker.storage.long_arrays import LongArrays

_VALUES_PER_CHUNK = 2**25  # resize this many values at once: 128 MiB as float32


def read_video(
    path: str | Path,
    first_frames: int = 0,
    *,
    frames: tuple[int, int] | None = None,
    start_frame: int = 0,
    frame_bytes: FrameBytes = frames_bytes,
    arrays: LongArrays | None = None,
) -> Video:
    """Read every frame of a video file or of a folder of frames, or some of them.

    A file may have any container and codec that PyAV reads; crop, rotation and mirroring in its
    metadata are applied, so frames look as in a player, but pixels that are not square stay as
    they are. A multi-page TIFF or an animated WebP is read too. In a folder, every image that
    ``list_images`` knows is a frame, in the order of the numbers in their names; hidden files
    and other extensions are ignored. All become 8-bit RGB; an alpha channel is dropped and the
    stored colours stay; EXIF rotation is applied. A file that is damaged, or shorter than its
    header states, is refused: its tracks would look like tracks through the whole video.

    Args:
        path: Video file, or folder that holds the frames directly.
        first_frames: Read at most this many; 0 for all.
        frames: Read from the first to the last of these two frames alone, both included, counted
            from ``start_frame``. Not together with ``first_frames``.
        start_frame: The number that the user gives to the first frame of ``path``.
        frame_bytes: What the work on the video takes for each frame of (H, W), to compare with
            free memory before anything is decoded; by default the frame alone.
        arrays: Where frames are held; with files, a video that does not fit into memory is put there.

    Returns:
        The video, with ``frames`` (T, H, W, 3) uint8 RGB at the original size and T
        at least 2. Its ``start_frame`` is the number of its own first frame. ``fps`` is the mean
        rate of a file, 24 for a folder or a TIFF; if a file's frames do not follow it evenly,
        ``times`` has the time of each. ``name`` is the file's stem or the folder's
        name, without characters a folder may not have.

    Raises:
        VideoError: If ``path`` is missing, empty, not a video, cut short or damaged,
            has no pictures or only one, if its frames differ in size, if it does not have
            the ``frames`` asked for, or if it does not fit into memory.
    """
    source, path, own_arrays = str(path), Path(path), arrays or LongArrays()
    skip, count = _part(source, first_frames, frames, start_frame)
    try:
        read = _read(source, path, count, skip, start_frame, frame_bytes, arrays)
        if frames is not None and len(read.frames) < count:
            raise VideoError(_ends_early(source, read, frames, start_frame))
        if len(read.frames) < 2:
            longer = "the folder of all its frames" if _is_picture(path) else "a longer video"
            raise VideoError(f"{source}: has 1 frame, but a track needs at least 2 frames; give {longer}")
        warn_of_aspect(read.pixel_aspect, path)
        if frames is not None:
            source += f" (frames {frames[0]}-{frames[1]})"
        elif len(read.frames) == first_frames:
            source += f" (first {first_frames} frames)"
        return Video(
            own_arrays.stacked(read.frames),
            read.timing.fps,
            safe_name(path.name if path.is_dir() else path.stem, safe_name(path.resolve().name, "video")),
            source,
            read.timing.times,
            read.pixel_aspect,
            start_frame + skip,
            read.first_file_number,
        )
    except MemoryError as error:
        raise out_of_memory(source) from error


def _read(
    source: str,
    path: Path,
    count: int,
    skip: int,
    start_frame: int,
    frame_bytes: FrameBytes,
    arrays: LongArrays | None,
) -> Reading:
    """Read a folder or a file of any kind, but its first ``skip`` frames, and up to ``count``; 0 for all."""
    address = re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.+)", source, re.IGNORECASE)

    def check(frames: int, size: Size) -> None:
        check_memory(source, frames, size, frame_bytes(size), arrays=arrays)

    try:
        if path.is_dir():
            return read_folder(path, count, skip, check, start_frame, arrays)
        if not path.exists():
            if address is not None:
                raise VideoError(f"{address[1]}://{address[2]}: is a web address; download it first")
            pattern = re.search(r"%\d*d|#|\*", path.name)
            remedy = "give the folder that holds the frames" if pattern else "check the path"
            raise VideoError(f"{source}: no such file or folder; {remedy}")
        refuse_special(path, VideoError, "save the video as a file and give that")
        if path.stat().st_size == 0:
            raise VideoError(f"{source}: is empty (0 bytes); copy or export the video again")
        if path.suffix.lower() in SEQUENCE_SUFFIXES:
            return read_image_sequence(path, count, skip, check, arrays)
        return read_video_file(path, count, skip, frame_bytes, arrays)
    except OSError as error:
        raise VideoError(f"{source}: cannot be read ({error.strerror}); check the path") from error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in FRAME_SUFFIXES


def _ends_early(source: str, read: Reading, frames: tuple[int, int], start_frame: int) -> str:
    """Say that a video ends before the last of the frames asked for."""
    has, number = f"ends before frame {frames[0]}", read.first_file_number
    if not read.frames and number is not None and start_frame < number <= frames[0]:
        return (
            f"{source}: {has}; its first file has the number {number}, so give --start-frame {number} to "
            "count as the files do"
        )
    if read.frames:
        has = f"has frames {start_frame}-{start_frame + read.skipped + len(read.frames) - 1}"
    return f"{source}: {has}, but {frames[0]}-{frames[1]} are asked for; ask for frames that it has"


def _part(
    source: str, first_frames: int, frames: tuple[int, int] | None, start_frame: int
) -> tuple[int, int]:
    """How many frames to skip, and how many to read then; 0 for all."""
    if frames is None:
        return 0, first_frames
    first, last = frames
    if first_frames:
        raise VideoError(f"{source}: has both first_frames and frames; give one of them")
    if first < start_frame:
        raise VideoError(
            f"{source}: begins with frame {start_frame}, but frames {first}-{last} are asked for; begin there"
        )
    if last <= first:
        raise VideoError(
            f"{source}: frames {first}-{last} are fewer than 2, which a track needs; ask for more"
        )
    return first - start_frame, last - first + 1


def content_hash(video: Video) -> str:
    """Hash the frames, so that cache keys depend on a video's content and not on its path.

    Args:
        video: Frames (T, H, W, 3) uint8. Name, path and rate do not count.

    Returns:
        64 hexadecimal digits; equal for equal frames, different for any other byte or shape.
    """
    digest = hashlib.blake2b(repr(video.frames.shape).encode(), digest_size=32)
    for frame in video.frames:
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


def working_frames(video: Video, size: Size, empty: Empty = torch.empty) -> Tensor:
    """Resize every frame to the working size with anti-aliasing.

    A few frames are resized at a time, so a 4K video needs little more memory than the
    result.

    Args:
        video: T frames of any size, uint8.
        size: (H, W) in working pixels.
        empty: Makes the result.

    Returns:
        (T, 3, H, W) uint8 RGB. A copy, even if the size is already right.
    """
    count, height, width, _ = video.frames.shape
    resized = empty(count, 3, *size, dtype=torch.uint8)
    step = max(1, _VALUES_PER_CHUNK // (height * width * 3))
    for start in range(0, count, step):
        chunk = torch.tensor(video.frames[start : start + step]).permute(0, 3, 1, 2)
        small = resize_frames(chunk.float(), size)
        resized[start : start + step] = small.round().clamp(0, 255).to(torch.uint8)
    return resized
