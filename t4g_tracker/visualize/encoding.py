"""Pictures and videos on disk."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import imageio.v3 as imageio
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace

from t4g_tracker.errors import OutputError
from t4g_tracker.inputs.frame_times import end_s
from t4g_tracker.storage.files import atomic_write

_BT709 = 1  # as primaries and as transfer, in the numbers of H.273
_TICK = Fraction(1, 90000)  # seconds; the clock of films whose rate varies
_REPEATABLE = "mbtree=0"  # x264's macroblock trees read memory never written: the same frames differ by run
_STEADY_S = 0.002  # containers such as Matroska round times to milliseconds


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float,
    quality: int = 18,
    *,
    times: np.ndarray | None = None,
    pixel_aspect: float = 1.0,
) -> None:
    """Encode frames as H.264 in a form that every player can show.

    Colours are those of BT.709 in limited range, and the file says so: players guess the conversion
    of a file that does not. Odd sides are padded by one row or column, since the format halves the
    resolution of colours. The same frames, encoded by as many threads, make the same file, which appears
    only once it is whole.

    Args:
        path: The mp4 file.
        frames: (H, W, 3) uint8 RGB, all of one size; consumed one at a time.
        fps: Frames a second, any positive number; 29.97 becomes 30000/1001.
        quality: H.264's CRF; lower is better and larger, 18 to 28 is usual.
        times: (T,) seconds at which each of the T frames is shown, the first at 0; the last is shown as
            long as most others. None, or times even to 2 ms: one each 1 / fps seconds.
        pixel_aspect: Width of a pixel over its height, which players stretch the frames by.

    Raises:
        OutputError: If there are no frames, or the file cannot be written.
    """
    source = iter(frames)
    first = next(source, None)
    if first is None:
        raise OutputError(f"{path}: cannot be written, there are no frames; give at least one")
    rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
    ticks = None if times is None or _even_in_time(times, fps) else _ticks(times, fps)
    # PyAV is used directly, since imageio's writer sets neither the quality nor the number of threads.
    with atomic_write(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                options = {"crf": str(quality), "preset": "medium", "x264-params": _REPEATABLE}
                stream = container.add_stream("libx264", rate=rate, options=options)
                stream.height, stream.width = (side + side % 2 for side in first.shape[:2])
                stream.pix_fmt = "yuv420p"
                stream.thread_count = torch.get_num_threads()  # as many as the rest of the program uses
                encoder = stream.codec_context
                encoder.sample_aspect_ratio = Fraction(pixel_aspect).limit_denominator(1000)
                encoder.colorspace, encoder.color_range = Colorspace.ITU709, ColorRange.MPEG
                encoder.color_primaries = encoder.color_trc = _BT709
                if ticks is not None:
                    encoder.time_base, encoder.max_b_frames = _TICK, 0  # packets in the order of their times
                for index, frame in enumerate(chain([first], source)):
                    picture = _converted(frame)
                    if ticks is not None:
                        picture.pts, picture.time_base = ticks[index], _TICK
                    _mux(container, stream.encode(picture), ticks)
                _mux(container, stream.encode(), ticks)
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error


def _even_in_time(times: np.ndarray, fps: float) -> bool:
    """Whether frames at these times are evenly spaced, but for rounding."""
    return bool(np.abs(times - np.arange(len(times)) / fps).max() <= _STEADY_S)


def _ticks(times: np.ndarray, fps: float) -> list[int]:
    """The (T + 1) times at which frames begin, and the last one ends, in ticks that grow."""
    ticks = np.round(np.append(times, end_s(times, len(times), fps)) / float(_TICK)).astype(np.int64)
    rank = np.arange(len(ticks))
    found: list[int] = (np.maximum.accumulate(ticks - rank) + rank).tolist()
    return found


def _mux(container: Any, packets: Sequence[Any], ticks: list[int] | None) -> None:
    """Write packets; the encoder knows when a frame begins, but not for how long it is shown."""
    for packet in packets:
        if ticks is not None:
            packet.duration = ticks[bisect_right(ticks, packet.pts)] - packet.pts
        container.mux(packet)


def _converted(frame: np.ndarray) -> Any:
    """Convert a frame (H, W, 3) RGB to H.264's planes in BT.709, its sides made even."""
    picture = av.VideoFrame.from_ndarray(_even(frame), format="rgb24")
    converted = picture.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    converted.colorspace, converted.color_range = Colorspace.ITU709, ColorRange.MPEG
    return converted


def _even(frame: np.ndarray) -> np.ndarray:
    """Repeat the last row or column of a frame if a side is odd."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 as png or jpg, by the extension of ``path``.

    Raises:
        OutputError: If the file cannot be written.
    """
    with atomic_write(path) as temporary:
        imageio.imwrite(temporary, picture)
