"""Copies of videos and images whose files do not say where they are from."""

from __future__ import annotations

import random
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import ImageOps

from t4g_tracker.errors import StudyError
from t4g_tracker.inputs.images import opened_image
from t4g_tracker.inputs.video import read_video
from t4g_tracker.visualize.encoding import write_picture, write_video

COARSE_PX = 24  # side of the blocks of a spoilt video


def copy_video(source: Path, target: Path) -> None:
    """Copy the pictures of a video as they are encoded, and nothing of what the file says about itself.

    Raises:
        StudyError: If ``source`` is no video.
    """
    try:
        with (
            av.open(str(source)) as read,
            av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as written,
        ):
            stream = read.streams.video[0]
            copy = written.add_stream_from_template(stream)
            copy.metadata.clear()
            for packet in read.demux(stream):
                if packet.dts is not None:  # the last one only ends the stream
                    packet.stream = copy
                    written.mux(packet)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise StudyError(f"{source}: cannot be read as a video; generate it again") from error


def spoil_video(source: Path, target: Path, seed: int) -> None:
    """Write a video with its frames coarse and in random order, so that nobody can prefer it."""
    video = read_video(source)
    height, width = video.size
    blocks = max(1, width // COARSE_PX), max(1, height // COARSE_PX)
    order = list(range(video.frame_count))
    random.Random(seed).shuffle(order)

    def coarse(frame: np.ndarray) -> np.ndarray:
        small = cv2.resize(frame, blocks, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)

    write_video(target, (coarse(video.frames[index]) for index in order), video.fps)


def copy_image(source: Path, target: Path) -> None:
    """Copy the pixels of an image, and nothing of what the file says about itself."""
    remedy = "write the input image again, as png"
    with opened_image(source, StudyError, remedy) as opened:
        pixels = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    write_picture(target, pixels)
