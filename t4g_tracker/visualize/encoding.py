"""Pictures and videos on disk."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import imageio.v3 as imageio
import numpy as np
import torch

from t4g_tracker.errors import OutputError
from t4g_tracker.files import atomic_write


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float, quality: int = 20) -> None:
    """Encode frames as H.264 in a form that every player can show.

    Odd sides are padded by one row or column, since the format halves the resolution of
    colours. The file appears only once it is whole.

    Args:
        path: The mp4 file.
        frames: (H, W, 3) uint8 RGB, all of one size; consumed one at a time.
        fps: Frames a second, any positive number; 29.97 becomes 30000/1001.
        quality: H.264's CRF; lower is better and larger, 18 to 28 is usual.

    Raises:
        OutputError: If there are no frames, or the file cannot be written.
    """
    source = iter(frames)
    first = next(source, None)
    if first is None:
        raise OutputError(f"{path}: cannot be written, there are no frames; give at least one")
    # PyAV is used directly, since imageio's writer sets neither the quality nor the number of threads.
    with atomic_write(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
                options = {"crf": str(quality), "preset": "medium"}
                stream = container.add_stream("libx264", rate=rate, options=options)
                stream.height, stream.width = (side + side % 2 for side in first.shape[:2])
                stream.pix_fmt = "yuv420p"
                stream.thread_count = torch.get_num_threads()  # as many as the rest of the program uses
                for frame in chain([first], source):
                    picture = av.VideoFrame.from_ndarray(_even(frame), format="rgb24")
                    container.mux(stream.encode(picture))
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error


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
