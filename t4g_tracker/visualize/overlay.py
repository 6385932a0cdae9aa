"""The video with its tracks drawn in: dots where points are seen, rings where they are hidden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from PIL import Image

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import OutputError
from t4g_tracker.files import atomic_write
from t4g_tracker.visualize.colours import point_colours
from t4g_tracker.visualize.drawing import SHIFT, dimmed, dot_radius, draw_points, fixed, positions, resized

LONGEST_SIDE_PX, SHORTEST_SIDE_PX = 1920, 1080  # larger videos are drawn at no more than this


def overlay_size(size: Size) -> Size:
    """The (H, W) an overlay of a video of ``size`` has: the same, or shrunk to fit 1080p."""
    share = min(1.0, LONGEST_SIDE_PX / max(size), SHORTEST_SIDE_PX / min(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def draw_overlay(
    video: Video, tracks: Tracks, queries: QueryPoints, trail_frames: int = 12, dim: float = 0.7
) -> Iterator[np.ndarray]:
    """Draw every point, and where it came from, on the dimmed video.

    A point that is seen is a filled dot, a hidden one a hollow ring. Trails fade with
    age and are drawn only between frames that both see the point, for in between
    nothing was measured.

    Args:
        video: T frames.
        tracks: N points in the same T frames, original pixels.
        queries: The N query points; they decide the colours.
        trail_frames: Length of the trails in frames; 0 for none.
        dim: Brightness of the video behind, 0..1.

    Yields:
        T frames (H, W, 3) uint8, at ``overlay_size`` of the video.
    """
    size = overlay_size(video.size)
    xy = positions(tracks.xy, video.size, size)
    visible = tracks.visibility.cpu().numpy()
    colours = point_colours(queries)
    radius = dot_radius(size, len(queries))
    for frame, picture in enumerate(video.frames):
        canvas = dimmed(resized(picture, size), dim)
        first = max(0, frame - trail_frames)
        if first < frame:
            past = slice(first, frame + 1)
            canvas = with_trails(canvas, xy[:, past], visible[:, past], colours, radius, trail_frames)
        draw_points(canvas, xy[:, frame], visible[:, frame], colours, radius)
        yield canvas


def with_trails(
    canvas: np.ndarray,
    xy: np.ndarray,
    visible: np.ndarray,
    colours: np.ndarray,
    radius: float,
    trail_frames: int,
) -> np.ndarray:
    """Lay trails over a frame, the newest end of (N, frames, 2) strongest and widest."""
    colour = canvas.copy()
    strength = np.zeros(canvas.shape[:2], np.uint8)
    drawn = visible[:, :-1] & visible[:, 1:] & np.isfinite(xy[:, :-1] + xy[:, 1:]).all(axis=-1)
    last = xy.shape[1] - 1
    for step in range(last):
        freshness = 1 - (last - 1 - step) / trail_frames
        width = max(1, round(radius * (0.25 + 0.55 * freshness)))
        for point in np.flatnonzero(drawn[:, step]):
            start, end = fixed(xy[point, step]), fixed(xy[point, step + 1])
            rgb = tuple(int(value) for value in colours[point])
            cv2.line(colour, start, end, rgb, width + 2, cv2.LINE_8, SHIFT)
            cv2.line(strength, start, end, round(225 * freshness**1.3), width, cv2.LINE_AA, SHIFT)
    share = strength.astype(np.float32)[..., None] / 255
    mixed: np.ndarray = canvas + (colour.astype(np.float32) - canvas) * share
    return mixed.round().astype(np.uint8)


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float, quality: int = 20) -> None:
    """Encode frames as H.264 in a form that every player shows.

    Odd sides are padded by one row or column, since the format halves the colours'
    resolution. The file appears only when it is whole.

    Args:
        path: The mp4 file.
        frames: (H, W, 3) uint8 RGB, all of one size; taken one at a time.
        fps: Frames a second, any positive number; 29.97 becomes 30000/1001.
        quality: H.264's CRF; lower is better and larger, 18 to 28 is usual.

    Raises:
        OutputError: If there are no frames, or the file cannot be written.
    """
    source = iter(frames)
    first = next(source, None)
    if first is None:
        raise OutputError(f"{path}: there are no frames to write")
    height, width = first.shape[:2]
    with atomic_write(path) as passing:
        try:
            with av.open(str(passing), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
                options = {"crf": str(quality), "preset": "medium"}
                stream = container.add_stream("libx264", rate=rate, options=options)
                stream.width, stream.height, stream.pix_fmt = (
                    width + width % 2,
                    height + height % 2,
                    "yuv420p",
                )
                stream.thread_count = torch.get_num_threads()  # no more than the rest of the program takes
                for frame in chain([first], source):
                    picture = av.VideoFrame.from_ndarray(_even(frame), format="rgb24")
                    container.mux(stream.encode(picture))
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error


def _even(frame: np.ndarray) -> np.ndarray:
    """A frame with the last row or column repeated where a side is odd."""
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(frame)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 as png or jpg, after the suffix of ``path``.

    Raises:
        OutputError: If the file cannot be written.
    """
    with atomic_write(path) as passing:
        Image.fromarray(picture).save(passing)
