"""Images of a folder become 8-bit RGB frames of the right brightness, whatever their files hold."""

import os
import stat
import struct
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import cv2
import numpy as np
import OpenEXR
import pytest
from PIL import Image

from t4g_tracker.errors import TrackerError, TrackerWarning, VideoError
from t4g_tracker.inputs.images import opened_image, read_picture
from t4g_tracker.inputs.mask_files import read_mask_values
from t4g_tracker.inputs.video import read_video

RAMP = np.arange(4 * 64 * 3).reshape(4, 64, 3)  # 0 to 767, each value once
DEEP = (RAMP * 80).astype(np.uint16)  # up to 61360
SMALL = (RAMP % 256).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 65536, (16, 64, 3), dtype=np.uint16)


def save_deep(path, values):
    """Save (H, W) or (H, W, C) uint16 in the order R, G, B, alpha."""
    order = [2, 1, 0, 3][: values.shape[2]] if values.ndim == 3 else None
    assert cv2.imwrite(str(path), values if order is None else values[..., order])


def folder_of(folder, suffix, pictures):
    folder.mkdir()
    for index, picture in enumerate(pictures):
        save_deep(folder / f"{index}{suffix}", picture)
    return folder


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.filterwarnings("error")
def test_16_bits_keep_their_upper_8(tmp_path, suffix):
    colours = folder_of(tmp_path / "colours", suffix, [DEEP, DEEP[::-1]])
    np.testing.assert_array_equal(read_video(colours).frames, np.stack([DEEP, DEEP[::-1]]) >> 8)
    grey = folder_of(tmp_path / "grey", suffix, [DEEP[..., 0], DEEP[..., 1]])
    np.testing.assert_array_equal(read_video(grey).frames[1], np.repeat(DEEP[..., 1:2], 3, -1) >> 8)
    alpha = folder_of(tmp_path / "alpha", suffix, [np.dstack([DEEP, DEEP[..., 0]])] * 2)
    np.testing.assert_array_equal(read_video(alpha).frames[0], DEEP >> 8)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (1023, 10), (16383, 14), (200, 8)])
def test_fewer_bits_in_16_are_as_bright_as_their_largest_value_says(tmp_path, suffix, largest, bits):
    dark, bright = (RAMP % 100).astype(np.uint16), np.linspace(0, largest, RAMP.size).astype(np.uint16)
    bright = bright.reshape(RAMP.shape)
    folder = folder_of(tmp_path / "plate", suffix, [dark, bright, dark])
    with pytest.warns(TrackerWarning) as caught:
        frames = read_video(folder).frames
    np.testing.assert_array_equal(frames, np.stack([dark, bright, dark]) >> (bits - 8))
    assert [str(warning.message) for warning in caught] == [
        f"{folder}: the largest value of its 16-bit pictures is {largest}, so they are read as {bits}-bit "
        "ones; save them with 8 bits if that is too bright"
    ]


def test_a_hot_pixel_that_makes_all_else_black_is_told(tmp_path):
    dark = (RAMP % 4096).astype(np.uint16)
    hot = dark.copy()
    hot[0, 0] = 65535
    folder = folder_of(tmp_path / "plate", ".png", [dark, hot] + [dark] * 8)
    with pytest.warns(TrackerWarning, match="are below 4096, so its frames are nearly black"):
        read_video(folder)


def test_pages_of_a_deep_tiff_have_one_brightness(tmp_path):
    pages = [(RAMP % 100).astype(np.uint16), (RAMP * 5).astype(np.uint16)]  # up to 3835
    assert cv2.imwritemulti(str(tmp_path / "stack.tif"), [page[..., ::-1] for page in pages])
    with pytest.warns(TrackerWarning, match=r"stack\.tif: .* is 3835, so they are read as 12-bit ones"):
        frames = read_video(tmp_path / "stack.tif").frames
    np.testing.assert_array_equal(frames, np.stack(pages) >> 4)


@pytest.mark.parametrize(
    ("largest", "elsewhere", "bits"), [(4000, 60000, 16), (900, 4000, 12), (900, 900, 10)]
)
def test_a_deep_frame_has_the_same_pixels_whatever_part_is_read(tmp_path, largest, elsewhere, bits):
    """A preview of the first frames, a part and the whole: one brightness, and with it one cache."""
    pictures = [RAMP % (largest + 1)] * 4 + [RAMP % 2 * elsewhere]
    pictures = [picture.astype(np.uint16) for picture in pictures]
    folder, stack = folder_of(tmp_path / "plate", ".png", pictures), tmp_path / "a.tif"
    assert cv2.imwritemulti(str(stack), [picture[..., ::-1] for picture in pictures])
    (folder / "5.png").write_bytes(b"damaged, but nobody asks for it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrackerWarning)
        for source in (folder, stack):
            for part in ({"first_frames": 2}, {"frames": (2, 3)}, {"first_frames": 5}):
                assert (read_video(source, **part).frames[0] == pictures[0] >> (bits - 8)).all()


def test_black_frames_of_8_bits_among_dark_ones_of_16_are_read(tmp_path):
    """ImageMagick stores a picture with as few bits as hold its values."""
    folder = folder_of(tmp_path / "fade", ".png", [DEEP // 16, DEEP // 20])
    Image.fromarray(np.zeros_like(SMALL)).save(folder / "2.png")
    with pytest.warns(TrackerWarning, match="they are read as 12-bit ones"):
        frames = read_video(folder).frames
    np.testing.assert_array_equal(frames, [DEEP // 16 >> 4, DEEP // 20 >> 4, np.zeros_like(SMALL)])


def test_depths_that_leave_the_brightness_open_are_refused(tmp_path):
    folder = folder_of(tmp_path / "plate", ".png", [DEEP // 16, DEEP // 16])
    Image.fromarray(SMALL).save(folder / "2.png")
    with pytest.raises(VideoError, match=rf"^{folder}: holds pictures of 8 and of 16 bits; save all"):
        read_video(folder)
    save_deep(folder / "1.png", DEEP)  # 16 full bits: of one brightness with the 8 bits
    np.testing.assert_array_equal(read_video(folder).frames[1:], [DEEP >> 8, SMALL])


@pytest.mark.parametrize("values", [DEEP.astype(np.float32), DEEP[..., 0].astype(np.float32)])
def test_a_tiff_of_floats_is_refused_with_a_remedy(tmp_path, values):
    cv2.imwrite(str(tmp_path / "0.tif"), values)
    with pytest.raises(VideoError, match=r"^.*0\.tif: .*; save it with 8 or 16 bits, as grey or RGB"):
        read_picture(tmp_path / "0.tif")


def with_tag(path, tag, value):
    """Change a value of a little-endian TIFF: 262 says what is white, 284 how colours lie."""
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<HHI", tag, 3, 1), int.from_bytes(data[4:8], "little")) + 8
    data[at : at + 2] = value.to_bytes(2, "little")
    path.write_bytes(data)
    return path


def test_a_tiff_whose_white_is_zero_is_read_as_its_twin_of_8_bits(tmp_path):
    grey = SMALL[..., 0]
    Image.fromarray(grey).save(tmp_path / "shallow.tif")
    save_deep(tmp_path / "deep.tif", grey.astype(np.uint16) * 257)
    shallow, deep = (with_tag(tmp_path / name, 262, 0) for name in ("shallow.tif", "deep.tif"))
    assert (read_picture(shallow).rgb[..., 0] == 255 - grey).all()
    np.testing.assert_array_equal(read_picture(deep).rgb, read_picture(shallow).rgb * np.uint16(257))
    assert (read_mask_values(shallow).values == 255 - grey).all()
    assert (read_mask_values(deep).values == (255 - grey) * np.uint16(257)).all()


def test_colours_in_planes_are_refused_where_they_would_be_scrambled(tmp_path):
    save_deep(tmp_path / "0.tif", DEEP)
    path = with_tag(tmp_path / "0.tif", 284, 2)
    for read in (read_picture, read_mask_values):
        with pytest.raises(TrackerError, match=r"0\.tif: holds each colour in a plane .*; save it inter"):
            read(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_png_is_turned_as_a_shallow_one(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(SMALL).save(tmp_path / "shallow.png", exif=exif)
    save_deep(tmp_path / "deep.png", SMALL.astype(np.uint16) * 256)
    data, shallow = (tmp_path / "deep.png").read_bytes(), (tmp_path / "shallow.png").read_bytes()
    at = shallow.index(b"eXIf") - 4
    chunk = shallow[at : at + 12 + int.from_bytes(shallow[at : at + 4])]
    (tmp_path / "deep.png").write_bytes(data[:33] + chunk + data[33:])
    expected = read_picture(tmp_path / "shallow.png").rgb
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png").rgb >> 8, expected)
    assert (expected.shape[0] == 64) == (orientation > 4)


@pytest.mark.parametrize("name", ["0.webp", "0.bmp", "0.tif", "0.png"])
def test_other_images_are_frames_too(tmp_path, name):
    Image.fromarray(SMALL).save(tmp_path / name, lossless=True)
    np.testing.assert_array_equal(read_picture(tmp_path / name).rgb, SMALL)


def test_a_file_of_several_pictures_is_no_frame(tmp_path):
    image = Image.fromarray(SMALL)
    image.save(tmp_path / "1.tif", save_all=True, append_images=[image])
    image.save(tmp_path / "2.jpg", "MPO", save_all=True, append_images=[image])  # as phones take them
    with pytest.raises(VideoError, match=r"1\.tif: holds 2 pictures; give the file itself as the video"):
        read_picture(tmp_path / "1.tif")
    assert read_picture(tmp_path / "2.jpg").rgb.shape == SMALL.shape


def test_a_picture_starts_no_other_program(tmp_path, monkeypatch):
    """Pillow would start Ghostscript, ``gs``, for PostScript."""
    script = tmp_path / "gs"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name in ("0.png", "0.tif", "0.jpg"):
        (tmp_path / name).write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
        )
        with pytest.raises(VideoError, match=rf"{name}: is not an image"):
            read_picture(tmp_path / name)
    assert not (tmp_path / "started").exists()


@pytest.mark.filterwarnings("error")
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (12000, 8000)).save(tmp_path / "0.png")
    with pytest.raises(VideoError, match=r"0\.png: has more than 89 million pixels; make it smaller"):
        read_picture(tmp_path / "0.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", ["0.png", "0.jpg", "deep.png", "deep.tif", "0.exr", "0.dpx"])
def test_a_picture_cut_short_is_refused(tmp_path, name):
    path, shallow = tmp_path / name, (NOISE >> 8).astype(np.uint8)
    if name.startswith("deep"):
        save_deep(path, NOISE)
    elif name == "0.exr":
        write_exr(path, NOISE / np.float32(65535))
    elif name == "0.dpx":
        write_dpx(path, shallow, "rgb24")
    else:
        Image.fromarray(shallow).save(path)
    data = path.read_bytes()
    assert read_picture(path).rgb.shape == NOISE.shape
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(VideoError, match=f"^{path}: is "):
            read_picture(path)


def write_exr(path, rgb, **header):
    kind = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channels = {"RGB": rgb} if isinstance(rgb, np.ndarray) else rgb
    OpenEXR.File(kind | header, channels).write(str(path))


def write_dpx(path, rgb, pixels, transfer=None):
    encoder = av.CodecContext.create("dpx", "w")
    encoder.height, encoder.width = rgb.shape[:2]
    encoder.pix_fmt, encoder.time_base = pixels, Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24" if rgb.dtype == np.uint8 else "rgb48le")
    packets = [*encoder.encode(frame.reformat(format=pixels)), *encoder.encode(None)]
    data = bytearray(b"".join(map(bytes, packets)))
    if transfer is not None:
        data[801] = transfer
    path.write_bytes(data)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_exr_gets_the_srgb_curve(tmp_path, kind):
    linear = np.zeros((2, 5, 3), kind)
    linear[0] = np.array([0.0, 0.002, 0.2140, 1.0, 16.0])[:, None]
    linear[1] = np.array([-1.0, np.nan, np.inf, 0.0513, 0.5])[:, None]
    write_exr(tmp_path / "0.exr", linear)
    picture = read_picture(tmp_path / "0.exr")
    np.testing.assert_array_equal(picture.rgb[..., 1], [[0, 7, 127, 255, 255], [0, 0, 255, 64, 188]])
    assert picture.note.startswith("EXR holds scene-linear values; 0 to 1 became 8 bits by the sRGB curve")


def test_an_exr_shows_its_display_window(tmp_path):
    """The picture has the size and the place that a compositor sees, black where nothing was rendered."""
    values = np.random.default_rng(0).random((6, 8, 3), np.float32)
    windows = {
        "dataWindow": (np.array([2, -1], np.int32), np.array([9, 4], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([6, 7], np.int32)),
    }
    write_exr(tmp_path / "part.exr", values, **windows)
    write_exr(tmp_path / "whole.exr", values)
    shown, whole = read_picture(tmp_path / "part.exr").rgb, read_picture(tmp_path / "whole.exr").rgb
    expected = np.zeros((8, 7, 3), np.uint8)
    expected[0:5, 2:7] = whole[1:6, 0:5]
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.filterwarnings("ignore:.*EXR holds scene-linear")
@pytest.mark.parametrize("suffix", [".exr", ".dpx"])
def test_pixels_that_are_not_square_are_told(tmp_path, suffix):
    """As scanned from film of anamorphic lenses."""
    for name in ("1", "2"):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".exr":
            write_exr(path, np.zeros((4, 6, 3), np.float32), pixelAspectRatio=2.0)
        else:
            write_dpx(path, SMALL, "rgb24")
            data = bytearray(path.read_bytes())
            data[1628:1636] = struct.pack(">II", 2, 1)
            path.write_bytes(data)
    with pytest.warns(TrackerWarning, match="its pixels are not square, a player shows them 2 times as wide"):
        assert read_video(tmp_path).pixel_aspect == 2


def test_the_picture_of_an_exr_is_found_or_refused(tmp_path):
    plane = np.full((4, 4), 0.5, np.float32)
    grey, layer = {"Y": plane}, {f"beauty.{colour}": plane for colour in "RGB"}
    for name, channels in (
        ("grey", grey),
        ("layer", layer),
        ("both", {**layer, "R": plane, "G": plane, "B": plane}),
    ):
        write_exr(tmp_path / f"{name}.exr", channels)
        assert (read_picture(tmp_path / f"{name}.exr").rgb == 188).all()
    for name, channels in (
        ("z", {"Z": plane}),
        ("layers", layer | {f"sky.{colour}": plane for colour in "RGB"}),
    ):
        write_exr(tmp_path / f"{name}.exr", channels)
        with pytest.raises(VideoError, match=rf"{name}\.exr: has the channels .*; write R, G, B"):
            read_picture(tmp_path / f"{name}.exr")


def test_exr_without_openexr_says_what_to_install(tmp_path, monkeypatch):
    write_exr(tmp_path / "0.exr", np.zeros((4, 4, 3), np.float32))
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(VideoError, match=r"0\.exr: EXR needs OpenEXR.*pip install .*, or convert .* ffmpeg"):
        read_picture(tmp_path / "0.exr")


@pytest.mark.parametrize(
    ("pixels", "bits"), [("rgb24", 8), ("gbrp10le", 10), ("gbrp12le", 12), ("rgb48le", 16)]
)
def test_dpx_keeps_the_upper_8_bits_of_its_values(tmp_path, pixels, bits):
    values = SMALL if bits == 8 else SMALL.astype(np.uint16) * 256
    write_dpx(tmp_path / "0.dpx", values, pixels)
    picture = read_picture(tmp_path / "0.dpx")
    np.testing.assert_array_equal(picture.rgb, SMALL)
    assert picture.note is None


def test_how_values_were_mapped_is_said_once_for_a_folder(tmp_path):
    for frame in range(3):
        write_dpx(tmp_path / f"shot.{frame}.dpx", SMALL, "rgb24", transfer=3)
    with pytest.warns(TrackerWarning) as caught:
        read_video(tmp_path)
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path}: DPX holds logarithmic values, which are taken as they are; export pngs for another look"
    ]


def test_pictures_that_are_not_read_are_named(tmp_path):
    for name in ("1.png", "2.png"):
        Image.fromarray(SMALL).save(tmp_path / name)
    for name in ("3.heic", "4.HEIC", "5.cr2"):
        (tmp_path / name).touch()
    found = r"has 3 pictures that are not read \(cr2, heic\), such as 3\.heic"
    with pytest.warns(TrackerWarning, match=f"{found}; convert"):
        assert read_video(tmp_path).frame_count == 2
    for name in ("1.png", "2.png"):
        (tmp_path / name).unlink()
    with pytest.raises(VideoError, match=f"{found}; give"):
        read_video(tmp_path)


def test_sizes_mixed_by_turning_are_refused(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(SMALL).save(tmp_path / "0.jpg")
    Image.fromarray(SMALL).save(tmp_path / "1.jpg", exif=turned)
    with pytest.raises(VideoError, match=r"differ in size, 0\.jpg is 64x4 and 1\.jpg is 4x64; make all"):
        read_video(tmp_path)


def test_what_libraries_print_about_damage_is_no_line_of_ours(tmp_path, capfd):
    """libtiff, below Pillow, and OpenCV print on standard error; the refusal says it in one line."""
    path = tmp_path / "0.tiff"
    Image.fromarray(SMALL).save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[8:300] = bytes(255 - value for value in data[8:300])
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"0\.tiff: is not an image that can be read"):
        read_picture(path)
    os.write(2, b"later lines come through\n")
    assert capfd.readouterr().err == "later lines come through\n"


def test_images_are_read_with_standard_error_closed(tmp_path):
    Image.fromarray(SMALL).save(tmp_path / "0.tiff", compression="tiff_lzw")
    kept = os.dup(2)
    os.close(2)
    try:
        assert np.array_equal(read_picture(tmp_path / "0.tiff").rgb, SMALL)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def test_threads_that_read_images_change_nothing_of_the_process(tmp_path):
    """Each would save and put back what another has changed: filters of warnings, and standard error."""
    path = tmp_path / "0.png"
    Image.fromarray(SMALL).save(path)
    both_inside = threading.Barrier(2)
    opened_first, closed_first = threading.Event(), threading.Event()

    def read(first):
        if not first:
            opened_first.wait()
        with opened_image(path, VideoError, ""):
            opened_first.set()
            both_inside.wait()
            if not first:
                closed_first.wait()
        closed_first.set()

    filters, error = list(warnings.filters), os.fstat(2)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(read, [True, False]))
    assert list(warnings.filters) == filters
    assert os.path.samestat(os.fstat(2), error)
