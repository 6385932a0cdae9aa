"""Small video files to read, encoded on the spot."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from t4g_tracker.errors import VideoError
from t4g_tracker.inputs.video import read_video


def moving_square(count=24, height=32, width=48):
    """A red corner at the top left, a blue one at the bottom right, and noise that makes data."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 60, (count, height, width, 3), dtype=np.uint8)
    frames[:, : height // 2, : width // 2] = [255, 0, 0]
    frames[:, height // 2 :, width // 2 :] = [0, 0, 255]
    frames[:, 0, 0, 1] = np.arange(count)  # tells the frames apart where coding is lossless
    return frames


def write_video(
    path,
    frames,
    codec="libx264",
    pixels="yuv420p",
    times=None,
    coder=None,
    rate=24,
    tick=Fraction(1, 24),
    **muxer,
):
    """Encode ``frames`` at ``rate`` a second, or shown at ``times`` in units of ``tick`` seconds."""
    with av.open(str(path), "w", options=muxer) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.gop_size = pixels, 6
        stream.options = coder or {}
        if times:
            stream.codec_context.time_base = tick
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times:
                picture.pts, picture.time_base = times[index], tick
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def copy_packets(source, path):
    """Write the video of ``source`` into a container that states no rate, as ``ffmpeg -c copy`` does."""
    with av.open(str(source)) as read, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return path


def message_of(path, **part):
    """The one line that reading ``path`` fails with; it begins with the path."""
    with pytest.raises(VideoError) as caught:
        read_video(path, **part)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message
