"""Frames are those of a player: crop and stream by the header, the shape of pixels, all their bits."""

import struct

import av
import numpy as np
import pytest
from tiny_videos import moving_square, write_video

from t4g_tracker.errors import TrackerWarning
from t4g_tracker.inputs.video import read_video

EBML_VOID = 0xEC
CROP_IDS = {"left": 0x54CC, "right": 0x54DD, "top": 0x54BB, "bottom": 0x54AA}


def add_matroska_crop(path, target, **sides):
    """Write PixelCrop elements over DisplayUnit and Colour, which end the Video element."""
    data = bytearray(path.read_bytes())
    begin = data.index(b"\x54\xb2\x81")
    colour = data.index(b"\x55\xb0", begin)
    end = colour + 3 + (data[colour + 2] & 0x7F)
    crops = b"".join(struct.pack(">HBB", CROP_IDS[side], 0x81, px) for side, px in sides.items())
    void = end - begin - len(crops) - 2
    data[begin:end] = crops + bytes([EBML_VOID, 0x80 | void]) + bytes(void)
    target.write_bytes(data)
    return target


def add_mp4_aperture(path, target, size, offset):
    """Insert a clean aperture (clap): its width and height, and how far its middle is right of and below."""
    data = bytearray(path.read_bytes())
    numbers = [number for value in (*size, *offset) for number in (value, 1)]
    box = struct.pack(">I4s8i", 40, b"clap", *numbers)
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(parent, data.index(b"moov")) - 4
        data[at : at + 4] = struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + len(box))
    at = data.index(b"avcC") - 4
    data[at:at] = box
    target.write_bytes(data)
    return target


def test_a_crop_in_matroska_is_applied(tmp_path):
    path = tmp_path / "whole.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        for frame in moving_square(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    cropped = add_matroska_crop(path, tmp_path / "crop.mkv", left=8, right=2, top=3, bottom=5)
    whole = read_video(path).frames
    assert whole.shape == (3, 32, 48, 3)
    np.testing.assert_array_equal(read_video(cropped).frames, whole[:, 3:-5, 8:-2])


def test_a_crop_in_mp4_is_applied_before_the_picture_is_turned(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", moving_square(3))
    plain = read_video(whole).frames
    cropped = add_mp4_aperture(whole, tmp_path / "crop.mp4", size=(40, 24), offset=(2, -1))
    expected = plain[:, 3:27, 6:46]  # (48 - 40) / 2 + 2 from the left, (32 - 24) / 2 - 1 from the top
    np.testing.assert_array_equal(read_video(cropped).frames, expected)
    data = bytearray(cropped.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 20] = struct.pack(">5i", 0, 1 << 16, 0, -1 << 16, 0)
    (tmp_path / "turned.mp4").write_bytes(data)
    turned = read_video(tmp_path / "turned.mp4").frames
    np.testing.assert_array_equal(turned, np.rot90(expected, -1, (1, 2)))


def test_reading_leaves_the_logging_of_pyav_as_it_was(tmp_path):
    level = av.logging.get_level()
    read_video(write_video(tmp_path / "a.mkv", moving_square(2)))
    assert av.logging.get_level() == level


@pytest.mark.parametrize(("turn", "shown"), [(False, 2.0), (True, 0.5)])
def test_pixels_that_are_not_square_stay_and_are_told(tmp_path, turn, shown):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for frame in moving_square(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    if turn:
        data = bytearray(path.read_bytes())
        at = data.index(b"tkhd") + 44
        data[at : at + 20] = struct.pack(">5i", 0, 1 << 16, 0, -1 << 16, 0)
        path.write_bytes(data)
    with pytest.warns(TrackerWarning, match=rf"^{path}: .*not square.* {shown:.4g} times as wide as high"):
        video = read_video(path)
    assert video.pixel_aspect == shown
    assert video.size == ((48, 32) if turn else (32, 48))


@pytest.mark.filterwarnings("error")
def test_square_pixels_are_not_spoken_of(tmp_path):
    assert read_video(write_video(tmp_path / "a.mp4", moving_square(2))).pixel_aspect == 1


def write_streams(path, sizes, default):
    """Streams of one grey each, 40 times its index; ``default`` is the one flagged so, or None."""
    with av.open(str(path), "w") as container:
        streams = []
        for index, (width, height) in enumerate(sizes):
            stream = container.add_stream("ffv1", rate=24)
            stream.width, stream.height, stream.pix_fmt = width, height, "gray"
            stream.disposition = av.stream.Disposition.default if index == default else 0
            streams.append(stream)
        for _ in range(2):
            for index, stream in enumerate(streams):
                grey = np.full((stream.height, stream.width), 40 * index, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="gray")))
        for stream in streams:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("extension", "default", "taken", "why"),
    [("mkv", 1, 1, "the default"), ("mkv", 2, 2, "the default"), ("nut", None, 2, "the largest")],
)
def test_of_several_streams_that_of_a_player_is_read_and_named(tmp_path, extension, default, taken, why):
    sizes = [(16, 32), (32, 32), (64, 32)]
    path = write_streams(tmp_path / f"three.{extension}", sizes, default)
    width = sizes[taken][0]
    with pytest.warns(
        TrackerWarning, match=rf"^{path}: has 3 video streams; {taken} is read \({width}x32, {why}"
    ):
        video = read_video(path)
    assert video.size == (32, width)
    np.testing.assert_allclose(video.frames, 40 * taken, atol=1)


@pytest.mark.parametrize(
    ("codec", "pixels", "extension"),
    [
        ("ffv1", "yuv420p10le", "mkv"),
        ("ffv1", "yuv444p12le", "mkv"),
        ("ffv1", "yuv444p16le", "mkv"),
        ("ffv1", "gray10le", "mkv"),
        ("ffv1", "gray16le", "mkv"),
        ("ffv1", "gbrp12le", "mkv"),
        ("png", "rgb48be", "mov"),
        ("png", "gray16be", "mov"),
    ],
)
@pytest.mark.parametrize("colour_range", [1, 2])  # 16-235 of 255, and all values
def test_deep_video_keeps_its_whole_range(tmp_path, codec, pixels, extension, colour_range):
    levels = np.array([0, 36, 73, 109, 146, 182, 219, 255], np.uint8)
    ramp = np.ascontiguousarray(np.broadcast_to(levels.repeat(8)[None, :, None], (16, 64, 3)))
    path = tmp_path / f"deep.{extension}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 16, pixels
        stream.codec_context.color_range = colour_range
        for _ in range(2):
            picture = av.VideoFrame.from_ndarray(ramp, format="rgb24")
            stretched = colour_range if pixels.startswith("yuv") else None
            container.mux(stream.encode(picture.reformat(format=pixels, dst_color_range=stretched)))
        container.mux(stream.encode())
    np.testing.assert_allclose(read_video(path).frames[1], ramp, atol=2)
