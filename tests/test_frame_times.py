"""The rate of a video is the mean one, and times are given where frames do not follow it evenly."""

import struct

import numpy as np
import pytest
from PIL import Image
from tiny_videos import moving_square, write_video

from t4g_tracker.errors import TrackerWarning
from t4g_tracker.inputs.frame_times import Timing, longest_gap, timing_of
from t4g_tracker.inputs.video import read_video


def test_even_times_keep_the_stated_rate_though_files_round_them():
    for fps, tick_s in ((24, 0.001), (30, 0.001), (240, 0.001), (24, 0.01), (29.97, 1 / 90000)):
        rounded = [round(index / fps / tick_s) * tick_s + 3 for index in range(100)]
        assert timing_of(rounded, fps, tick_s) == Timing(fps)


def test_even_times_at_another_rate_than_stated_have_their_own():
    timing = timing_of([0.5, 0.54, 0.58, 0.62], 60000, 1 / 90000)
    assert timing.times is None
    assert timing.fps == pytest.approx(25)


def test_uneven_times_are_kept_and_the_rate_is_their_mean():
    seconds = [2.0, 2.1, 2.2, 2.2, 5.1]
    timing = timing_of(seconds, 10, 0.001)
    np.testing.assert_allclose(timing.times, [0, 0.1, 0.2, 0.2, 3.1])
    assert timing.times.dtype == np.float64
    assert timing.fps == pytest.approx(4 / 3.1)
    dropped = timing_of([0, 0.1, 0.2, 0.4, 0.5], 10, 0.1)  # AVI counts in frames: one is missing
    assert dropped.times is not None


@pytest.mark.parametrize("seconds", [[0, None, 0.2], [0, 0.2, 0.1], [0, 0, 0], [1.0]])
def test_times_that_cannot_be_leave_the_stated_rate(seconds):
    assert timing_of(seconds, 25, 0.001) == Timing(25)


def test_a_gap_is_found_among_even_frames_alone():
    even = np.arange(40) / 10
    gap = longest_gap(Timing(10, np.delete(even, [11, 12, 30])))
    assert gap == pytest.approx((1.0, 2))
    assert longest_gap(Timing(10, np.cumsum([0.1, 0.5] * 10))) is None
    assert longest_gap(Timing(10)) is None


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_a_file_of_variable_rate_has_the_times_of_its_frames(tmp_path, extension):
    times = [5, 6, 7, 15, 16, 29, 245]  # in 1/24 s
    path = write_video(tmp_path / f"vfr.{extension}", moving_square(7), times=times)
    video = read_video(path)
    np.testing.assert_allclose(video.times, (np.array(times) - 5) / 24, atol=0.001)
    assert video.fps == pytest.approx(6 / 10, rel=1e-3)
    part = read_video(path, frames=(2, 5))
    np.testing.assert_allclose(part.times, (np.array(times[2:6]) - 7) / 24, atol=0.001)
    assert part.fps == pytest.approx(3 * 24 / 22, rel=1e-2)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "avi", "ts", "mov"])
def test_a_file_of_even_rate_has_no_times(tmp_path, extension):
    video = read_video(write_video(tmp_path / f"even.{extension}", moving_square(9), "mpeg4"))
    assert video.times is None
    assert video.fps == pytest.approx(24)


def test_the_durations_of_a_webp_become_times(tmp_path):
    first, *others = (Image.fromarray(frame) for frame in moving_square(4))
    first.save(tmp_path / "a.webp", save_all=True, append_images=others, duration=[40, 40, 500, 40])
    video = read_video(tmp_path / "a.webp")
    np.testing.assert_allclose(video.times, [0, 0.04, 0.08, 0.58])
    assert video.fps == pytest.approx(3 / 0.58)


def test_a_rate_that_no_video_has_is_replaced_with_a_warning(tmp_path):
    path = write_video(tmp_path / "a.avi", moving_square(9), "mjpeg", "yuvj420p", rate=24)
    data = bytearray(path.read_bytes())
    for at in range(len(data) - 8):
        if data[at : at + 8] == struct.pack("<2I", 1, 24):  # scale and rate of the stream
            data[at : at + 8] = struct.pack("<2I", 1, 24 + 2**25)
    path.write_bytes(data)
    with pytest.warns(TrackerWarning, match=r"a\.avi: has 3\.35545e\+07 frames a second by its header"):
        video = read_video(path)
    assert video.fps == 24
    assert video.frame_count == 9
    assert read_video(write_video(tmp_path / "fast.avi", moving_square(9), "mpeg4", rate=1000)).fps == 1000
