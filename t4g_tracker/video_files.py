"""Decoding a video file with PyAV, whose packets, times and stream headers show that a file is cut short.

Readers that return only frames, such as imageio's, end such a file early in silence.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from t4g_tracker.errors import VideoError
from t4g_tracker.image_sequences import FOLDER_FPS, width_by_height


@dataclass(frozen=True)
class _Decoded:
    """The frames decoded from a video stream, and how it ended."""

    frames: list[np.ndarray]  # each (H, W, 3) uint8
    skipped: int  # frames before them
    end_s: float | None  # when the last frame ends, in seconds; None if the file has no times
    cut: bool  # the data stopped inside a frame


def read_video_file(path: Path, first_frames: int = 0, skip: int = 0) -> tuple[list[np.ndarray], float]:
    """Decode a video file, or some of its frames.

    Args:
        path: A file of any container and codec of FFmpeg.
        first_frames: How many frames to keep after those that are skipped; 0 for all.
        skip: How many to decode and drop before.

    Returns:
        Frames (H, W, 3) uint8 RGB of one size, upright, and the mean rate in frames a second.

    Raises:
        VideoError: If the file is not a video, cut short or damaged, or its frames change size.
    """
    try:
        # Absolute, since "a:b.mp4" would be read as protocol a; replace, since titles need not be UTF-8.
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            stream = _video_stream(container, path)
            fps = float(stream.average_rate or stream.guessed_rate or FOLDER_FPS)
            decoded = _decode(container, stream, path, first_frames, skip)
            if not 0 < first_frames == len(decoded.frames):
                _check_complete(decoded, stream, fps, path)
    except av.FFmpegError as error:
        raise VideoError(_why_unreadable(path)) from error
    return decoded.frames, fps


def _video_stream(container: Any, path: Path) -> Any:
    """Find the first video stream that is not the cover image of a song."""
    if container.format.name == "tty":  # FFmpeg shows a text file as a terminal
        raise VideoError(_why_unreadable(path))
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise VideoError(f"{path}: holds no video stream, only {kinds}; give a file with moving pictures")


def _decode(container: Any, stream: Any, path: Path, first_frames: int, skip: int) -> _Decoded:
    """Decode frames after the first ``skip``, upright, up to the first damage or to ``first_frames``."""
    frames: list[np.ndarray] = []
    end_s, cut, skipped = None, False, 0
    try:
        for packet in container.demux(stream):
            cut = packet.is_corrupt if packet.size else cut
            try:
                pictures = packet.decode()
            except av.InvalidDataError:
                if frames or skipped:
                    raise
                continue  # a recording may begin between two key frames
            for picture in pictures:
                if 0 < first_frames == len(frames):
                    return _Decoded(frames, skipped, end_s, cut=False)
                if picture.time is not None:
                    end_s = picture.time + float((picture.duration or 0) * picture.time_base)
                if skipped < skip:
                    skipped += 1
                    continue
                frames.append(_upright(picture))
                if frames[-1].shape != frames[0].shape:
                    sizes = f"{width_by_height(frames[0])} to {width_by_height(frames[-1])}"
                    number = skipped + len(frames) - 1
                    raise VideoError(
                        f"{path}: changes size from {sizes} at frame {number}; {_reencode(path)}"
                    )
    except av.FFmpegError:
        cut = True
    return _Decoded(frames, skipped, end_s, cut)


def _upright(picture: Any) -> np.ndarray:
    """Convert a decoded picture to (H, W, 3) uint8, turned and mirrored by its display matrix."""
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
    """Refuse a file with fewer frames than its header promises."""
    count = decoded.skipped + len(decoded.frames)
    if count == 0:
        raise VideoError(f"{path}: none of its frames can be decoded; copy the file again or re-encode it")
    promised_s = _promised_seconds(stream)
    missing_s = promised_s - (count / fps if decoded.end_s is None else decoded.end_s)
    # Fewer frames alone are not damage: an edit list may trim a healthy file, and its duration.
    short = count < stream.frames and missing_s > 1.5 / fps
    if decoded.cut or short or _is_cut_matroska(path):
        total = stream.frames or round(promised_s * fps)
        of_total = f"{count} of {total}" if total > count else f"the first {count}"
        raise VideoError(
            f"{path}: only {of_total} frames can be read, the file is cut short or damaged; "
            f"copy it again, or {_reencode(path)}"
        )


def _promised_seconds(stream: Any) -> float:
    """Read the stream's duration from its header; 0 if the header has none."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))  # Matroska, WebM
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) if tag else 0.0


def _is_cut_matroska(path: Path) -> bool:
    """Whether a Matroska or WebM file, which has no frame count, is shorter than its Segment element."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4  # the Segment element (RFC 8794, RFC 9559), then its size
    if not head.startswith(b"\x1a\x45\xdf\xa3") or at < 4:
        return False
    length = 9 - head[at].bit_length()  # leading zero bits give the bytes of the size
    unknown = (1 << 7 * length) - 1
    size = int.from_bytes(head[at : at + length]) & unknown
    return size != unknown and at + length + size > path.stat().st_size


def _why_unreadable(path: Path) -> str:
    """Explain why no video can be found in a file."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] == b"ftyp" or head[:4] in (b"RIFF", b"\x1a\x45\xdf\xa3"):
        return f"{path}: is cut short, its index (mp4: moov atom) is missing; copy or export the video again"
    return f"{path}: is not a video; give a video file (mp4, mov, webm, ...) or a folder of jpg or png frames"


def _reencode(path: Path) -> str:
    """The remedy for a damaged file: a command that saves what is readable."""
    return f"re-encode what is readable with: ffmpeg -i {shlex.quote(str(path))} repaired.mp4"
