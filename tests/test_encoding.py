"""Encoded videos: colours, times and shapes are those of the frames, and the file says how to show them."""

import hashlib
import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from t4g_tracker.errors import OutputError
from t4g_tracker.inputs.video import read_video
from t4g_tracker.visualize.encoding import write_video

FLAT = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (255, 255, 0), (0, 0, 0), (255, 255, 255), (12, 12, 14)]


def played(path):
    """The stream's facts, and the times and colours of its frames in a player that takes it for BT.709."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (float(frame.time), frame.to_ndarray(format="rgb24", src_colorspace=Colorspace.ITU709))
            for frame in container.decode(stream)
        ]
        codec = stream.codec_context
        return {
            "tags": (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range),
            "duration": float(stream.duration * stream.time_base),
            "aspect": stream.sample_aspect_ratio,
            "rate": stream.average_rate,
            "times": [time for time, _ in frames],
            "frames": np.stack([picture for _, picture in frames]).astype(int),
        }


@pytest.mark.parametrize("size", [(45, 63), (96, 128)])
def test_colours_are_those_of_bt709_and_the_file_says_so(tmp_path, size):
    for colour in FLAT:
        write_video(tmp_path / "flat.mp4", np.zeros((2, *size, 3), np.uint8) + np.uint8(colour), 24.0)
        found = played(tmp_path / "flat.mp4")
        assert np.abs(found["frames"] - colour).max() <= 3
        assert found["tags"] == (1, 1, 1, 1)  # BT.709 three times, and limited range


def noise(count=8, size=(32, 48)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def test_frames_are_shown_when_those_of_the_source_are_and_for_as_long(tmp_path):
    times = np.array([0, 0.1, 0.2, 0.3, 1.0, 2.0, 2.1, 3.1])
    write_video(tmp_path / "varying.mp4", noise(), 7 / 3.1, times=times)
    found = played(tmp_path / "varying.mp4")
    assert found["times"] == pytest.approx(times, abs=1e-4)
    assert found["duration"] == pytest.approx(3.1 + 0.1, abs=1e-4)  # the last as long as most


def test_times_that_are_even_but_for_rounding_make_a_constant_rate(tmp_path):
    times = np.round(np.arange(8) * 1001 / 30000, 3)  # as Matroska stores them
    write_video(tmp_path / "even.mp4", noise(), 30000 / 1001, times=times)
    found = played(tmp_path / "even.mp4")
    assert found["rate"] == Fraction(30000, 1001)
    assert found["times"] == pytest.approx(np.arange(8) * 1001 / 30000, abs=1e-5)


def test_times_that_stand_still_do_not_stop_the_film(tmp_path):
    write_video(tmp_path / "still.mp4", noise(4), 10.0, times=np.array([0, 0.3, 0.3, 0.9]))
    assert played(tmp_path / "still.mp4")["times"] == pytest.approx([0, 0.3, 0.3, 0.9], abs=1e-3)


@pytest.mark.parametrize("aspect", [2.0, 8 / 9, 1.0])
def test_pixels_keep_their_shape(tmp_path, aspect):
    write_video(tmp_path / "wide.mp4", noise(2), 24.0, pixel_aspect=aspect)
    assert float(played(tmp_path / "wide.mp4")["aspect"]) == pytest.approx(aspect, abs=1e-6)


def test_an_encoded_video_plays_back_in_full_and_in_colour(tmp_path):
    frames = np.zeros((7, 45, 63, 3), np.uint8) + np.array([200, 60, 30], np.uint8)
    write_video(tmp_path / "odd.mp4", frames, 30000 / 1001)
    video = read_video(tmp_path / "odd.mp4")
    assert video.frames.shape == (7, 46, 64, 3)
    assert video.fps == pytest.approx(29.97003, abs=1e-4)
    assert np.abs(video.frames.astype(int) - [200, 60, 30]).max() < 6


def test_the_same_frames_make_the_same_file_whatever_was_in_memory_before(tmp_path):
    program = """
import sys, cv2, numpy as np, torch
from t4g_tracker.visualize.encoding import write_video
torch.set_num_threads(1)
frames = np.random.default_rng(0).integers(0, 256, (4, 192, 320, 3), dtype=np.uint8)
write_video(sys.argv[1], [cv2.GaussianBlur(frame, (0, 0), 3) for frame in frames], 7, 14)
"""
    digests = set()
    for filled in ("0", "85", "170"):  # glibc fills memory with it
        path = tmp_path / f"{filled}.mp4"
        environment = {**os.environ, "MALLOC_PERTURB_": filled}
        subprocess.run([sys.executable, "-c", program, str(path)], env=environment, check=True)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("fps", [0.5, 16.0, 23.456789, 240.0])
def test_any_frame_rate_can_be_written(tmp_path, fps):
    write_video(tmp_path / "clip.mp4", np.zeros((4, 32, 32, 3), np.uint8), fps)
    assert read_video(tmp_path / "clip.mp4").fps == pytest.approx(fps, rel=1e-3)


def test_a_video_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "overlay.mp4"
    path.write_bytes(b"old")

    def frames():
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("the painting failed")

    with pytest.raises(RuntimeError, match="the painting failed"):
        write_video(path, frames(), 24.0)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"none/overlay\.mp4: cannot be written"):
        write_video(tmp_path / "none" / "overlay.mp4", np.zeros((2, 32, 32, 3), np.uint8), 24.0)
    with pytest.raises(OutputError, match="there are no frames"):
        write_video(tmp_path / "overlay.mp4", [], 24.0)
