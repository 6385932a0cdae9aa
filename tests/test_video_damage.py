"""Damaged and cut files are not tracked as if sound, and sound ones are not taken for damaged."""

import warnings

import av
import numpy as np
import pytest
from tiny_videos import message_of, moving_square, write_video

from t4g_tracker.errors import TrackerWarning
from t4g_tracker.inputs.video import read_video

SIZE = (96, 128)


FINE = {
    "b": "4M",
    "deadline": "realtime",
    "preset": "veryfast",
}  # bits a second, so that all pictures take about as many bytes


def clip(path, codec="libx264", pixels="yuv420p", count=24, **options):
    return write_video(path, moving_square(count, *SIZE), codec, pixels, coder=FINE, **options)


def overwrite(path, at, share=0.2):
    """Change a share of a file's bytes, from a share of its length on."""
    data = bytearray(path.read_bytes())
    begin, count = int(len(data) * at), int(len(data) * share)
    data[begin : begin + count] = bytes(byte ^ 0x55 for byte in data[begin : begin + count])
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mpg", "mpeg2video", "yuv420p"),
        ("a.mov", "png", "rgb24"),
    ],
)
@pytest.mark.parametrize("at", [0.4, 0.6])
def test_changed_bytes_are_refused_with_the_frames_before_them(tmp_path, name, codec, pixels, at):
    path = clip(tmp_path / name, codec, pixels)
    sound = read_video(path).frames
    message = message_of(overwrite(path, at))
    assert "cut short or damaged" in message
    assert "ffmpeg -i" in message
    readable = int(message.partition("--first-frames ")[2].partition(",")[0])
    assert 1 < readable < 24
    np.testing.assert_array_equal(read_video(path, readable).frames, sound[:readable])


def test_pictures_lost_between_others_are_told(tmp_path):
    path = clip(tmp_path / "lost.mkv")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    begin = packets[10].pos - 3  # with the track and the time of its block
    data[begin : packets[13].pos - 8] = bytes(packets[13].pos - 8 - begin)
    path.write_bytes(data)
    with pytest.warns(TrackerWarning, match=rf"^{path}: about \d frames are missing after 0\.\d+ s"):
        read_video(path)


CUT = [  # cut anywhere but between two pictures
    ("a.mp4", "libx264", "yuv420p", {"movflags": "faststart"}),
    ("a.mkv", "libx264", "yuv420p", {}),
    ("a.ts", "libx264", "yuv420p", {}),
    ("a.ts", "mpeg2video", "yuv420p", {}),
    ("a.gif", "gif", "rgb8", {}),
    ("a.h264", "libx264", "yuv420p", {}),
    ("a.y4m", "wrapped_avframe", "yuv420p", {}),
    ("a.mpg", "mpeg2video", "yuv420p", {}),
    ("a.nut", "ffv1", "yuv420p", {}),
    ("a.mjpeg", "mjpeg", "yuvj420p", {}),
    ("a.wmv", "wmv2", "yuv420p", {}),
    ("a.flv", "flv", "yuv420p", {}),
    ("a.ogv", "libvpx", "yuv420p", {}),
    ("a.mxf", "mpeg2video", "yuv420p", {}),
    ("a.ivf", "libvpx", "yuv420p", {}),
    ("a.apng", "apng", "rgb24", {}),
]


@pytest.mark.parametrize(("name", "codec", "pixels", "muxer"), CUT)
def test_files_cut_short_are_refused_in_formats_with_and_without_a_length(
    tmp_path, name, codec, pixels, muxer
):
    rate = 25 if codec == "mpeg2video" else 24
    path = clip(tmp_path / name, codec, pixels, rate=rate, **muxer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_video(path).frame_count == 24
    data = path.read_bytes()
    for part in (0.37, 0.61, 0.83):
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes(data[: int(len(data) * part) | 1])
        assert "cut short or damaged" in message_of(cut)


def without_last_byte(data):
    return data[:-1]


def without_mark_of_last_page(data):
    """An Ogg file as a recorder that was ended leaves it (RFC 3533: the flag 4, and the checksum anew)."""
    at = data.rindex(b"OggS")
    page = bytearray(data[at:])
    page[5] &= ~4
    page[22:26] = bytes(4)
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum & 1 << 31 else 0)) & (1 << 32) - 1
    page[22:26] = checksum.to_bytes(4, "little")
    return data[:at] + page


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "untidy"),
    [
        ("a.gif", "gif", "rgb8", without_last_byte),
        ("a.gif", "gif", "rgb8", lambda data: data[:-1] + bytes(20)),
        ("a.ts", "libx264", "yuv420p", lambda data: data + b"\xff" * 100),
        ("a.m2ts", "libx264", "yuv420p", lambda data: data + bytes(100)),
        ("a.ogv", "libvpx", "yuv420p", without_mark_of_last_page),
    ],
)
def test_an_untidy_end_after_all_frames_is_warned_about(tmp_path, name, codec, pixels, untidy):
    path = clip(tmp_path / name, codec, pixels)
    sound = read_video(path).frames
    path.write_bytes(untidy(path.read_bytes()))
    with pytest.warns(TrackerWarning, match=rf"^{path}: does not end as its format asks, .* after the 24"):
        np.testing.assert_array_equal(read_video(path).frames, sound)


@pytest.mark.parametrize("lost", [2, 40])
def test_a_gif_cut_in_its_last_picture_is_refused(tmp_path, lost):
    path = clip(tmp_path / "a.gif", "gif", "rgb8")
    path.write_bytes(path.read_bytes()[:-lost])
    assert "cut short or damaged" in message_of(path)


def test_the_end_of_a_wmv_is_where_its_header_says(tmp_path):
    path = clip(tmp_path / "a.wmv", "wmv2")
    data = path.read_bytes()
    path.write_bytes(data[:-10])  # of the index: all pictures are there
    assert "cut short" in message_of(path)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "coder"),
    [
        ("open.ts", "libx264", "yuv420p", {"x264-params": "open-gop=1:keyint=6:bframes=3"}),
        ("refresh.mp4", "libx264", "yuv420p", {"intra-refresh": "1"}),
        ("slices.mkv", "libx264", "yuv420p", {"slices": "4", "bf": "4"}),
        ("interlaced.ts", "libx264", "yuv420p", {"flags": "+ilme+ildct", "x264-params": "tff=1"}),
        ("open.mpg", "mpeg2video", "yuv420p", {"bf": "2"}),
        ("packed.avi", "mpeg4", "yuv420p", {"bf": "2", "vtag": "XVID"}),
        ("hidden.webm", "libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("vp9.webm", "libvpx-vp9", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
        ("hevc.mp4", "libx265", "yuv420p", {"x265-params": "log-level=none:open-gop=1:keyint=6"}),
        ("av1.mp4", "libsvtav1", "yuv420p", {"preset": "12", "svtav1-params": "keyint=6"}),
        ("crc.mkv", "ffv1", "yuv420p", {"level": "3", "slicecrc": "1"}),
        ("a.mov", "prores_ks", "yuv422p10le", {}),
        ("a.mov", "qtrle", "rgb24", {}),
        ("a.avi", "huffyuv", "rgb24", {}),
        ("a.avi", "msmpeg4", "yuv420p", {}),
        ("a.wmv", "wmv1", "yuv420p", {}),
        ("a.flv", "libx264", "yuv420p", {}),
        ("a.mxf", "dnxhd", "yuv422p", {"profile": "dnxhr_lb"}),
        ("a.asf", "mpeg4", "yuv420p", {}),
        ("a.m2ts", "libx264", "yuv420p", {}),
        ("a.nut", "rawvideo", "yuv420p", {}),
    ],
)
def test_sound_files_of_every_kind_are_read_whole(tmp_path, name, codec, pixels, coder):
    rate = 25 if codec == "mpeg2video" else 24
    size = (128, 256) if codec == "dnxhd" else SIZE
    path = write_video(tmp_path / name, moving_square(12, *size), codec, pixels, coder=coder, rate=rate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        video = read_video(path)
    assert video.frame_count == 12
    shown = np.abs(video.frames[:, 8:24, 8:24].mean((0, 1, 2)) - [255, 0, 0])
    assert (shown < 40).all()


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_recording_that_begins_between_key_frames_is_no_damage(tmp_path, codec):
    path = clip(tmp_path / "whole.ts", codec, rate=25)
    whole = read_video(path).frames
    data = path.read_bytes()
    late = tmp_path / "late.ts"
    late.write_bytes(data[len(data) // 188 * 2 // 5 * 188 :])
    frames = read_video(late).frames
    assert 4 < len(frames) < 24
    np.testing.assert_array_equal(frames[-4:], whole[-4:])


def test_a_broken_first_key_frame_of_a_broadcast_is_told(tmp_path):
    """It may be a recording that was joined late, so it is read; but its first frames may show anything."""
    path = clip(tmp_path / "a.ts", "mpeg2video", rate=25)
    data = bytearray(path.read_bytes())
    data[1076:1080] = bytes(4)  # in the first picture
    path.write_bytes(data)
    with pytest.warns(TrackerWarning, match=r"a\.ts: the beginning cannot be decoded \(1 pictures\)"):
        read_video(path)
