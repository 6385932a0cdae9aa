"""Reading a video: a file or a folder of frames in, every frame as RGB at its original size out."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from t4g_tracker.coordinates import Size, resize_frames
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import VideoError

FOLDER_FPS = 24.0  # a folder of frames does not say how fast it was filmed
IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)  # what PIL raises on bad files

_FRAME_EXTENSIONS = (".jpg", ".jpeg", ".png")
_VALUES_PER_CHUNK = 2**25  # resize this many values at once: 128 MiB as float32


def read_video(path: str | Path, first_frames: int = 0) -> Video:
    """Read every frame of a video file or of a folder of frames, or the first ones.

    A file may have any container and codec that PyAV reads; rotation and mirroring
    in its metadata are applied, so frames are as a player shows them. In a folder,
    jpg, jpeg and png files are frames in natural order (frame2 before frame10); hidden
    files and other extensions are ignored. Grey, palette and 16-bit images become
    8-bit RGB, EXIF rotation is applied, and an alpha channel is dropped: the stored
    colours stay. A file that ends before its header says is refused, since tracks
    through a silently shortened video would be taken for tracks through all of it.

    Args:
        path: Video file, or folder that holds the frames directly.
        first_frames: How many to read, fewer where there are not so many; 0 for all.

    Returns:
        The video, with ``frames`` (T, H, W, 3) uint8 RGB at the original size and T
        at least 2. ``fps`` is the mean rate of a file, 24 for a folder. ``name`` is
        the file's stem or the folder's name, without characters a folder may not have.

    Raises:
        VideoError: If ``path`` is missing, empty, not a video, cut short or damaged,
            has no pictures or only one, or if its frames differ in size.
    """
    source, path = str(path), Path(path)
    try:
        if path.is_dir():
            frames, fps = _read_folder(path, first_frames), FOLDER_FPS
        elif path.exists():
            frames, fps = _read_file(path, first_frames)
        else:
            raise VideoError(f"{source}: no such file or folder; check the path")
    except OSError as error:
        raise VideoError(f"{source}: cannot be read ({error.strerror}); check the path") from error
    if len(frames) < 2:
        raise VideoError(f"{source}: has 1 frame, but a track needs at least 2 frames; give a longer video")
    if len(frames) == first_frames:
        source += f" (first {first_frames} frames)"
    return Video(frames, fps, _output_name(path), source)


def content_hash(video: Video) -> str:
    """Fingerprint of the frames, to key caches by what a video shows and not by its path.

    Args:
        video: Frames (T, H, W, 3) uint8. Name, path and rate do not count.

    Returns:
        64 hexadecimal digits; equal for equal frames, another for any other byte or shape.
    """
    digest = hashlib.blake2b(repr(video.frames.shape).encode(), digest_size=32)
    for frame in video.frames:
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


def working_frames(video: Video, size: Size) -> Tensor:
    """Resize every frame to the working size with anti-aliasing.

    Goes through a few frames at a time, so that a 4K video needs little more memory
    than its result.

    Args:
        video: T frames of any size, uint8.
        size: (H, W) in working pixels.

    Returns:
        (T, 3, H, W) uint8 RGB. A copy, also when nothing was to be resized.
    """
    count, height, width, _ = video.frames.shape
    resized = torch.empty((count, 3, *size), dtype=torch.uint8)
    step = max(1, _VALUES_PER_CHUNK // (height * width * 3))
    for start in range(0, count, step):
        chunk = torch.tensor(video.frames[start : start + step]).permute(0, 3, 1, 2)
        small = resize_frames(chunk.float(), size)
        resized[start : start + step] = small.round().clamp(0, 255).to(torch.uint8)
    return resized


@dataclass(frozen=True)
class _Decoded:
    """What came out of a video stream."""

    frames: list[np.ndarray]  # each (H, W, 3) uint8
    end_s: float | None  # when the last frame ends, in seconds; None if the file has no times
    cut: bool  # the data stopped inside a frame


def _read_file(path: Path, first_frames: int) -> tuple[np.ndarray, float]:
    """Frames (T, H, W, 3) and mean frame rate of a video file."""
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: is empty (0 bytes); copy or export the video again")
    try:
        # An absolute path, for "a:b.mp4" would read as protocol a. Titles need not be UTF-8.
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            stream = _video_stream(container, path)
            fps = float(stream.average_rate or stream.guessed_rate or FOLDER_FPS)
            decoded = _decode(container, stream, path, first_frames)
            if not 0 < first_frames == len(decoded.frames):
                _check_complete(decoded, stream, fps, path)
    except av.FFmpegError as error:
        raise VideoError(_why_unreadable(path)) from error
    return _stack(decoded.frames), fps


def _video_stream(container: Any, path: Path) -> Any:
    """The first stream of pictures that is not the cover image of a song."""
    if container.format.name == "tty":  # FFmpeg would film a text file as a terminal
        raise VideoError(_why_unreadable(path))
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise VideoError(f"{path}: holds no video stream, only {kinds}; give a file with moving pictures")


def _decode(container: Any, stream: Any, path: Path, first_frames: int) -> _Decoded:
    """Every frame that can be decoded, or the first ones, upright, up to the first damage."""
    frames: list[np.ndarray] = []
    end_s, cut = None, False
    try:
        for packet in container.demux(stream):
            cut = packet.is_corrupt if packet.size else cut
            try:
                pictures = packet.decode()
            except av.InvalidDataError:
                if frames:
                    raise
                continue  # a recording may begin between two key frames
            for picture in pictures:
                if 0 < first_frames == len(frames):
                    return _Decoded(frames, end_s, cut=False)
                frames.append(_upright(picture))
                if frames[-1].shape != frames[0].shape:
                    sizes = f"{_said_size(frames[0])} to {_said_size(frames[-1])}"
                    raise VideoError(
                        f"{path}: changes size from {sizes} at frame {len(frames) - 1}; {_reencode(path)}"
                    )
                if picture.time is not None:
                    end_s = picture.time + float((picture.duration or 0) * picture.time_base)
    except av.FFmpegError:
        cut = True
    return _Decoded(frames, end_s, cut)


def _upright(picture: Any) -> np.ndarray:
    """One decoded picture as (H, W, 3) uint8, turned and mirrored as its display matrix asks."""
    frame: np.ndarray = picture.to_ndarray(format="rgb24")
    side_data = picture.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    if side_data is None:
        return frame
    # (x, y) is shown at (a x + c y, b x + d y); FFmpeg stores the nine numbers a b u c d v x y w.
    a, b, _, c, d, *_ = (int(value) for value in np.frombuffer(bytes(side_data), np.int32))
    if abs(b) > abs(a):
        frame, flip_x, flip_y = frame.swapaxes(0, 1), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(frame[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def _check_complete(decoded: _Decoded, stream: Any, fps: float, path: Path) -> None:
    """Refuse a file that yields less than its header promises."""
    count = len(decoded.frames)
    if count == 0:
        raise VideoError(f"{path}: none of its frames can be decoded; copy the file again or re-encode it")
    promised_s = _promised_seconds(stream)
    missing_s = promised_s - (count / fps if decoded.end_s is None else decoded.end_s)
    # Fewer frames alone are no damage: an edit list may trim a healthy file, its duration too.
    short = count < stream.frames and missing_s > 1.5 / fps
    if decoded.cut or short or _is_cut_matroska(path):
        total = stream.frames or round(promised_s * fps)
        of_total = f"{count} of {total}" if total > count else f"the first {count}"
        raise VideoError(
            f"{path}: only {of_total} frames can be read, the file is cut short or damaged; "
            f"copy it again, or {_reencode(path)}"
        )


def _promised_seconds(stream: Any) -> float:
    """How long the header says the stream lasts; 0 when it does not say."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))  # Matroska, WebM
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) if tag else 0.0


def _is_cut_matroska(path: Path) -> bool:
    """Whether a Matroska or WebM file, which counts no frames, has fewer bytes than its Segment says."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4  # the Segment element (RFC 8794, RFC 9559), then its size
    if not head.startswith(b"\x1a\x45\xdf\xa3") or at < 4:
        return False
    length = 9 - head[at].bit_length()  # leading zero bits tell how many bytes the size takes
    unknown = (1 << 7 * length) - 1
    size = int.from_bytes(head[at : at + length]) & unknown
    return size != unknown and at + length + size > path.stat().st_size


def _why_unreadable(path: Path) -> str:
    """The message for a file in which no video can be found."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] == b"ftyp" or head[:4] in (b"RIFF", b"\x1a\x45\xdf\xa3"):
        return f"{path}: is cut short, its index (mp4: moov atom) is missing; copy or export the video again"
    return f"{path}: is not a video; give a video file (mp4, mov, webm, ...) or a folder of jpg or png frames"


def _reencode(path: Path) -> str:
    """What to type to get a sound file of what can be read."""
    return f"re-encode what is readable with: ffmpeg -i {shlex.quote(str(path))} repaired.mp4"


def _stack(frames: list[np.ndarray]) -> np.ndarray:
    """``np.stack`` that empties ``frames`` as it goes, so that no video is held twice."""
    stacked = np.empty((len(frames), *frames[0].shape), np.uint8)
    for index in range(len(stacked)):
        stacked[index] = frames.pop(0)
    return stacked


def image_files(folder: Path, first: int = 0) -> list[Path]:
    """The jpg and png files of a folder, hidden ones left out, numbers in names in counting order.

    All of them, or the ``first`` so many where that is not 0.
    """
    images = (file for file in folder.iterdir() if file.suffix.lower() in _FRAME_EXTENSIONS)
    files = sorted((file for file in images if file.name[0] != "." and file.is_file()), key=_natural_order)
    return files[: first or None]


def _read_folder(folder: Path, first_frames: int) -> np.ndarray:
    """Frames (T, H, W, 3) of a folder of images."""
    files = image_files(folder, first_frames)
    if not files:
        raise VideoError(f"{folder}: holds no jpg or png frames; give the folder that holds them directly")
    frames = np.empty((len(files), *_read_image(files[0]).shape), np.uint8)
    for index, file in enumerate(files):
        frame = _read_image(file)
        if frame.shape != frames.shape[1:]:
            raise VideoError(
                f"{folder}: frames differ in size, {files[0].name} is {_said_size(frames[0])} and "
                f"{file.name} is {_said_size(frame)}; make all frames one size"
            )
        frames[index] = frame
    return frames


def _natural_order(file: Path) -> tuple[list[str | int], str]:
    """Sorting key that reads digits as numbers."""
    parts = re.split(r"(\d+)", file.name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], file.name


def _read_image(file: Path) -> np.ndarray:
    """One image as (H, W, 3) uint8 RGB, upright."""
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16-bit grey, which PIL would clip at 255
                grey = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=-1)
            if "transparency" in image.info:
                image = image.convert("RGBA")
            return np.asarray(image.convert("RGB"))
    except IMAGE_ERRORS as error:
        raise VideoError(
            f"{file}: is not an image that can be read; replace it or remove it from the folder"
        ) from error


def _said_size(frame: np.ndarray) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"


def _output_name(path: Path) -> str:
    """A folder name for the outputs: the stem, or the folder's name, made safe."""
    name = path.name if path.is_dir() else path.stem
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name).strip(" .")
    return name or re.sub(r"\W", "_", path.resolve().name) or "video"
