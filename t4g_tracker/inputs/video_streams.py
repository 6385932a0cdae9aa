"""The video stream of a file that a player shows, and what the file's header says of it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import av

from t4g_tracker.errors import VideoError, warn
from t4g_tracker.inputs.frame_times import Timing, longest_gap
from t4g_tracker.inputs.image_sequences import FOLDER_FPS

EXPORT = "export it as mp4, or its frames as a folder of png"
_MOST_FPS = 1000.0  # what films may be written with
_MOST_STEADY_FPS = 240.0  # of cameras; above, a header that gives no count of frames mostly means its clock
_SQUARE = 0.01  # a pixel whose sides differ by a smaller share is taken as square


def shown_stream(container: Any, path: Path) -> Any:
    """Find the stream that a player takes: the one flagged as default, else the one with most pixels.

    Raises:
        VideoError: If there are no moving pictures, or FFmpeg has no decoder for them.
    """
    if container.format.name == "tty":  # FFmpeg shows a text file as a terminal
        raise VideoError(why_unreadable(path))
    streams = _moving_streams(container)
    if streams:
        return max(streams, key=lambda stream: (_is_default(stream), _pixels(stream)))
    if any(stream.codec_context is None for stream in container.streams.video):
        raise VideoError(f"{path}: FFmpeg has no decoder for it here; {EXPORT}")
    kinds = {"a cover image" if each.type == "video" else each.type for each in container.streams}
    found = " and ".join(sorted(kinds)) or "nothing"
    raise VideoError(f"{path}: holds no video stream, only {found}; give a file with moving pictures")


def _moving_streams(container: Any) -> list[Any]:
    """The video streams that are no cover image of a song and no still picture beside a film."""
    cover = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    streams = [
        each for each in container.streams.video if each.codec_context and not each.disposition & cover
    ]
    return [each for each in streams if each.frames != 1] or streams


def _is_default(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.default)


def _pixels(stream: Any) -> int:
    return int(stream.codec_context.width * stream.codec_context.height)


def warn_of_streams(container: Any, stream: Any, path: Path) -> None:
    """Warn if another stream than the one that is read could have been meant."""
    others = [str(each.index) for each in _moving_streams(container) if each.index != stream.index]
    if not others:
        return
    size = f"{stream.codec_context.width}x{stream.codec_context.height}"
    why = "the default" if _is_default(stream) else "the largest"
    warn(
        f"{path}: has {len(others) + 1} video streams; {stream.index} is read ({size}, {why}), not "
        f"{', '.join(others)}; for another: ffmpeg -i {shlex.quote(str(path))} -map 0:{others[0]} other.mkv"
    )


def warn_of_aspect(aspect: float, path: Path) -> None:
    """Warn if a player shows pixels wider or narrower than high."""
    if abs(aspect - 1) > _SQUARE:
        warn(
            f"{path}: its pixels are not square, a player shows them {aspect:.4g} times as wide as high; "
            "positions are in stored pixels: divide an x read off a player by that"
        )


def warn_of_gap(timing: Timing, path: Path) -> None:
    """Warn if frames seem to be missing between others."""
    gap = longest_gap(timing)
    if gap is not None:
        begin_s, missing = gap
        warn(
            f"{path}: about {missing:.0f} frames are missing after {begin_s:.2f} s, dropped by the recorder "
            "or lost to damage; frames are counted as if none were missing"
        )


def plausible(timing: Timing, path: Path) -> Timing:
    """Replace a rate that no video has, and of which no film could be written, with that of a folder."""
    if timing.fps <= _MOST_FPS:
        return timing
    warn(
        f"{path}: has {timing.fps:.6g} frames a second by its header, which is damaged or wrong; "
        f"{FOLDER_FPS:.0f} are taken, re-encode the video if times matter"
    )
    return Timing(FOLDER_FPS)


def stated_frames(stream: Any) -> int:
    """How many frames the header, or a tag of mkvmerge, gives the stream; 0 if it says nothing."""
    tag = stream.metadata.get("NUMBER_OF_FRAMES", "")
    return int(stream.frames or (int(tag) if tag.isdecimal() else 0))


def stated_fps(stream: Any) -> float:
    """Frames a second by the header; those of a folder if it has none."""
    return float(stream.guessed_rate or stream.average_rate or FOLDER_FPS)


def steady_fps(stream: Any) -> float:
    """Frames a second by the header; 0 if it has none, or the clock of times in its place (1000, 90000)."""
    fps = float(stream.average_rate or 0)
    return fps if fps <= _MOST_STEADY_FPS else 0.0


def stated_seconds(stream: Any) -> float:
    """The stream's duration by the header; 0 if it has none."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))  # Matroska, WebM
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) if tag else 0.0


def why_unreadable(path: Path) -> str:
    """Explain why no video can be found in a file."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] == b"ftyp" or head[:4] in (b"RIFF", b"\x1a\x45\xdf\xa3"):
        return f"{path}: is cut short, its index (mp4: moov atom) is missing; copy or export the video again"
    return f"{path}: is not a video; give a video file (mp4, mov, webm, ...) or a folder of jpg or png frames"
