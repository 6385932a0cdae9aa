"""Decoding a video file with PyAV, whose packets, times and stream headers show that a file is damaged.

Readers that return only frames, such as imageio's, take such a file in silence.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from t4g_tracker.coordinates import Size
from t4g_tracker.errors import VideoError, warn
from t4g_tracker.inputs.frame_times import timing_of
from t4g_tracker.inputs.image_sequences import width_by_height
from t4g_tracker.inputs.reading import Reading
from t4g_tracker.inputs.video_display import (
    Crop,
    container_crop,
    displayed,
    is_oblique,
    is_on_its_side,
    pixel_aspect,
)
from t4g_tracker.inputs.video_endings import Ending, ending_of
from t4g_tracker.inputs.video_streams import (
    EXPORT,
    plausible,
    shown_stream,
    stated_fps,
    stated_frames,
    stated_seconds,
    steady_fps,
    warn_of_gap,
    warn_of_streams,
    why_unreadable,
)
from t4g_tracker.memory import check_memory, frames_bytes
from t4g_tracker.storage.long_arrays import LongArrays

# FFmpeg hides damage unless told to fail where data contradict themselves, are short or fail a checksum.
_STRICT = {"err_detect": "crccheck+buffer+explode"}
_JOINED_LATE = ("mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v")  # may begin between two key frames
_DURATION_OF_STREAMS = ("mxf",)  # formats without a count of frames whose header has each stream's duration
_SLIDES = ("gif", "apng")  # formats in which a picture may well be shown for long
_MEMORY_CHECK_EVERY = 64  # frames

FrameBytes = Callable[[Size], int]


@dataclass(frozen=True)
class _Job:
    """What to read of a file, and how."""

    path: Path
    skip: int  # frames to decode and drop
    wanted: int  # frames to keep then; 0 for all
    frame_bytes: FrameBytes
    careful: bool  # with one thread: damage is then met where it is
    arrays: LongArrays | None  # where frames are held


@dataclass
class _Decoded:
    """The frames decoded so far from a video stream."""

    frames: list[np.ndarray] = field(default_factory=list)  # each (H, W, 3) uint8
    skipped: int = 0  # frames before them
    packets: int = 0  # packets with data that are to be shown
    seconds: list[float | None] = field(default_factory=list)  # when each of ``frames`` is shown
    end_s: float | None = None  # when the last one ends; None if the file has no times
    end_byte: int | None = None  # where the last packet ends in the file; None if the demuxer does not say
    tick_s: float = 0.0  # the unit of times
    turned: bool = False  # shown after a quarter turn
    oblique: bool = False  # to be shown after another turn, which is not applied
    lost: int = 0  # pictures at the beginning that cannot be decoded
    damaged: bool = False  # decoding stopped at damage
    full: bool = False  # all frames that were asked for are there

    @property
    def count(self) -> int:
        return self.skipped + len(self.frames)


def read_video_file(
    path: Path,
    first_frames: int = 0,
    skip: int = 0,
    frame_bytes: FrameBytes = frames_bytes,
    arrays: LongArrays | None = None,
) -> Reading:
    """Decode a video file, or some of its frames.

    Damage that FFmpeg notices is refused, unless all frames asked for lie before it.

    Args:
        path: A file of any container and codec of FFmpeg.
        first_frames: How many frames to keep after those that are skipped; 0 for all.
        skip: How many to decode and drop before.
        frame_bytes: What the work on the video takes for a frame of (H, W), to compare with free memory.
        arrays: Where frames are held; None for memory, whatever its size.

    Returns:
        Frames of one size, cropped, upright and mirrored as a player shows them.

    Raises:
        VideoError: If the file is not a video, cut short or damaged, its frames change size, or memory
            does not suffice.
        MemoryError: If memory runs out all the same.
    """
    try:
        quick = _read(_Job(path, skip, first_frames, frame_bytes, careful=False, arrays=arrays))
        # Several threads report damage late, or lose frames in silence, so doubt is settled with one.
        read = quick or _read(_Job(path, skip, first_frames, frame_bytes, careful=True, arrays=arrays))
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise VideoError(why_unreadable(path)) from error
    assert read is not None
    return read


def _read(job: _Job) -> Reading | None:
    """Open and decode a file; None if there is doubt about damage and ``job`` is not careful."""
    # Absolute, since "a:b.mp4" would be read as protocol a; replace, since titles need not be UTF-8.
    with av.open(str(job.path.absolute()), metadata_errors="replace") as container:
        stream = shown_stream(container, job.path)
        stream.thread_type = "NONE" if job.careful else "AUTO"
        stream.codec_context.options = _STRICT
        size = stream.codec_context.height, stream.codec_context.width
        count = max(0, stated_frames(stream) - job.skip)
        if count and size[0] * size[1] and not job.careful:
            wanted, need = min(count, job.wanted or count), job.frame_bytes(size)
            check_memory(str(job.path), wanted, size, need, arrays=job.arrays)
        decoded = _decode(container, stream, job)
        lost = not decoded.full and decoded.packets > decoded.count  # several threads hide damage at the end
        if not job.careful and (decoded.damaged or lost):
            return None
        if not decoded.full:
            _check_complete(decoded, container, stream, job.path)
        if decoded.lost:
            warn(
                f"{job.path}: the beginning cannot be decoded ({decoded.lost} pictures), since the recording "
                "begins between two key frames or is damaged there; frames count from the first that is shown"
            )
        if decoded.oblique:
            warn(
                f"{job.path}: is to be shown turned by an angle that is no multiple of 90 degrees, but is "
                f"read turned by the nearest; to have the angle, {_reencode(job.path)}"
            )
        if not count and decoded.frames:
            _check_memory(decoded, len(decoded.frames), job)
        warn_of_streams(container, stream, job.path)
        timing = plausible(timing_of(decoded.seconds, stated_fps(stream), decoded.tick_s), job.path)
        if container.format.name not in _SLIDES:
            warn_of_gap(timing, job.path)
        aspect = pixel_aspect(stream, decoded.turned)
        return Reading(decoded.frames, decoded.skipped, timing, aspect)


def _decode(container: Any, stream: Any, job: _Job) -> _Decoded:
    """Decode the part of a stream that is wanted, up to the first damage."""
    decoded, crop = _Decoded(), container_crop(container, stream)
    joined_late = container.format.name in _JOINED_LATE
    key_pts: int | None = None  # of the first key frame
    try:
        for packet in container.demux(stream):
            decoded.packets += packet.size > 0 and not packet.is_discard
            pictures = _sound_pictures(packet)
            if pictures is None:
                late = _lies_before_key(packet, key_pts, joined_late)
                if not job.careful or decoded.count or not late:
                    decoded.damaged = True
                    return decoded
                decoded.lost += 1
                continue
            if packet.size:
                key_pts = packet.pts if key_pts is None and packet.is_keyframe else key_pts
                decoded.end_byte = None if packet.pos is None else packet.pos + packet.size
            for picture in pictures:
                _keep(picture, crop, decoded, job)
                if decoded.full:
                    return decoded
    except MemoryError:
        raise
    except av.FFmpegError:  # while a packet was read
        decoded.damaged = True
    return decoded


def _sound_pictures(packet: Any) -> list[Any] | None:
    """Decode a packet; None if it is damaged."""
    try:
        pictures: list[Any] = packet.decode()
    except av.InvalidDataError:
        return None
    damaged = (packet.size and packet.is_corrupt) or any(picture.is_corrupt for picture in pictures)
    return None if damaged else pictures


def _lies_before_key(packet: Any, key_pts: int | None, joined_late: bool) -> bool:
    """Whether a packet cannot be decoded because the recording begins between two key frames."""
    if key_pts is None:
        return joined_late or not packet.is_keyframe
    return packet.pts is not None and packet.pts < key_pts  # follows the key frame, but is shown before it


def _keep(picture: Any, crop: Crop, decoded: _Decoded, job: _Job) -> None:
    """Add a picture to the frames, or skip it."""
    if picture.time is not None:
        decoded.end_s = picture.time + float((picture.duration or 0) * picture.time_base)
    if decoded.skipped < job.skip:
        decoded.skipped += 1
        return
    frame, frames = displayed(picture, crop), decoded.frames
    if frames and frame.shape != frames[0].shape:
        sizes = f"{width_by_height(frames[0])} to {width_by_height(frame)}"
        raise VideoError(
            f"{job.path}: changes size from {sizes} at frame {decoded.count}; {_reencode(job.path)}"
        )
    frames.append(frame if job.arrays is None else job.arrays.held(frame))
    decoded.seconds.append(picture.time)
    decoded.tick_s, decoded.turned = float(picture.time_base or 0), is_on_its_side(picture)
    decoded.oblique |= is_oblique(picture)
    decoded.full = len(frames) == job.wanted
    if len(frames) % _MEMORY_CHECK_EVERY == 0:  # where the header tells no length, or a wrong one
        _check_memory(decoded, len(frames) + _MEMORY_CHECK_EVERY, job, only_refuse=True)


def _check_memory(decoded: _Decoded, count: int, job: _Job, only_refuse: bool = False) -> None:
    """Refuse a video of ``count`` frames that does not fit beside those that are decoded."""
    frame = decoded.frames[0]
    size, held = frame.shape[:2], len(decoded.frames) * frame.nbytes
    check_memory(str(job.path), count, size, job.frame_bytes(size), held, only_refuse, job.arrays)


def _check_complete(decoded: _Decoded, container: Any, stream: Any, path: Path) -> None:
    """Refuse a file that is damaged, ends too early or has fewer frames than its header promises."""
    count, stated, kind = decoded.count, stated_frames(stream), container.format.name
    if count == 0 and not stated:
        raise VideoError(f"{path}: none of its frames can be decoded; copy the file again, or {EXPORT}")
    fps = stated_fps(stream)
    promised_s = stated_seconds(stream)
    begin_s = float((stream.start_time or 0) * stream.time_base)
    missing_s = promised_s - (count / fps if decoded.end_s is None else decoded.end_s - begin_s)
    # Fewer frames alone are not damage: an edit list may trim a sound file, and its duration.
    fewer = count < stated or kind in _DURATION_OF_STREAMS
    short = fewer and missing_s > 1.5 / fps
    ending = ending_of(path, kind, decoded.end_byte)
    if decoded.damaged or short or ending is Ending.CUT:
        total = stated or round(promised_s * steady_fps(stream))
        of_total = f"{count} of {total}" if total > count else f"the first {count}"
        these = f"track these alone with --first-frames {count}, " if count > 1 else ""
        raise VideoError(
            f"{path}: only {of_total} frames can be read, the file is cut short or damaged; "
            f"copy it again, {these}or {_reencode(path)}"
        )
    if ending is Ending.UNTIDY:
        warn(
            f"{path}: does not end as its format asks, so frames may be missing after the {count} that are "
            "read; if so, copy it again"
        )


def _reencode(path: Path) -> str:
    """The remedy for a damaged file: a command that saves what is readable."""
    return f"re-encode what is readable with: ffmpeg -i {shlex.quote(str(path))} repaired.mp4"
