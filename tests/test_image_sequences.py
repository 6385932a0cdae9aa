"""Frames in folders are in the order of their numbers; of TIFF and WebP files, every picture is read."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from t4g_tracker.errors import TrackerWarning, VideoError
from t4g_tracker.inputs.image_sequences import image_files
from t4g_tracker.inputs.video import read_video

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), dtype=np.uint8)


def save(path, images, **options):
    first, *others = images
    first.save(path, save_all=True, append_images=others, **options)
    return path


def lossless(path):
    options = {"lossless": True, "duration": 40} if path.suffix == ".webp" else {"compression": "tiff_lzw"}
    return save(path, [Image.fromarray(frame) for frame in FRAMES], **options)


@pytest.mark.parametrize(("name", "fps"), [("a:b.tif", 24), ("scan.TIFF", 24), ("clip.webp", 25)])
def test_every_picture_is_a_frame(tmp_path, name, fps):
    path = lossless(tmp_path / name)
    video = read_video(path)
    np.testing.assert_array_equal(video.frames, FRAMES)
    assert video.fps == pytest.approx(fps)
    np.testing.assert_array_equal(read_video(path, 3).frames, FRAMES[:3])


def test_pictures_of_other_modes_become_8_bit_rgb(tmp_path):
    deep = FRAMES[..., 0].astype(np.uint16) * 256 + 200
    grey = np.repeat(FRAMES[..., :1], 3, axis=-1)
    for name, stack in (("deep.tif", deep), ("grey.tif", FRAMES[..., 0])):
        path = save(tmp_path / name, [Image.fromarray(np.ascontiguousarray(picture)) for picture in stack])
        np.testing.assert_array_equal(read_video(path).frames, grey)


@pytest.mark.parametrize("name", ["a.tif", "a.webp"])
@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")
def test_a_file_cut_short_anywhere_is_refused(tmp_path, name):
    data = lossless(tmp_path / name).read_bytes()
    cut = tmp_path / f"cut-{name}"
    for length in range(len(data) // 20, len(data), len(data) // 20):
        cut.write_bytes(data[:length])
        with pytest.raises(VideoError, match=f"^{cut}: is not an image that can be read; it is cut"):
            read_video(cut)


def test_pictures_of_different_sizes_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", [Image.new("RGB", (6, 4)), Image.new("RGB", (8, 4))])
    with pytest.raises(VideoError, match=r"pictures differ in size \(6x4, 8x4\)"):
        read_video(path)


def test_one_picture_makes_no_track(tmp_path):
    with pytest.raises(VideoError, match="has 1 frame, but a track needs at least 2"):
        read_video(save(tmp_path / "a.webp", [Image.new("RGB", (6, 4))]))


def folder_of(folder, names):
    """Images whose every pixel is the frame that the file is, in the order of ``names``."""
    folder.mkdir()
    for frame, name in enumerate(names):
        Image.new("RGB", (4, 3), (frame,) * 3).save(folder / name)
    return folder


def frames_read(folder, **options):
    return read_video(folder, **options).frames[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("names", "first_number"),
    [
        ([f"frame{i}.png" for i in range(8, 12)], 8),
        ([f"frame_{i}.png" for i in range(-6, 6)], -6),
        ([f"frame{i}.png" for i in range(-6, 6)], -6),
        ([f"{i}.png" for i in range(-2, 2)], -2),
        ([f"frame-{i}.png" for i in range(8, 12)], 8),
        ([f"{9.5 + i / 10:g}.png" for i in range(12)], None),  # 9.5, ..., 9.9, 10, 10.1, ...
        ([f"t_{i / 10:g}s.png" for i in range(-3, 4)], None),
        ([f"frame_{i / 4}.png" for i in range(1, 6)], None),  # 0.25, 0.5, 0.75, 1.0, ...
        ([f"{i * 0.1}.png" for i in range(1, 12)], None),  # 0.30000000000000004 is one of them
        (["0.05.png", "0.1.png", "0.15.png", "0.2.png"], None),
        ([f"shot_v2.{i}.png" for i in range(1001, 1005)], 1001),
        ([f"shot_v2.{i}.png" for i in range(8, 12)], 8),
        ([f"v1.2_take10_{i}.png" for i in range(8, 12)], 8),
        ([f"{i}_of_12.png" for i in range(8, 12)], 8),
        ([f"f{i}.png" for i in range(0, 20, 5)], 0),
        (["2023-12-31_23-59-59.png", "2024-01-01_00-00-00.png", "2024-01-01_00-00-01.png"], None),
        (["IMG_20231231_235959.jpg", "IMG_20240101_000000.jpg", "IMG_20240101_000001.jpg"], None),
        (
            [
                f"Screenshot 2024-01-31 at {time}.png"
                for time in ("12.00.00 AM", "11.59.58 AM", "11.59.59\u202fAM", "12.00.00 PM", "1.00.00 PM")
            ],
            None,
        ),
        ([f"frame{i}_t{i / 30:.3f}.png" for i in range(8, 12)], None),
        (["A.001.JPG", "a.002.jpeg", "a.003.png"], 1),
    ],
    ids=lambda names: names[0] if isinstance(names, list) else "",
)
@pytest.mark.filterwarnings("error")
def test_frames_are_in_the_order_of_their_numbers(tmp_path, names, first_number):
    folder = folder_of(tmp_path / "plate", names)
    assert frames_read(folder) == list(range(len(names)))
    for part in ({}, {"first_frames": 2}, {"frames": (0, 1)}, {"frames": (1, 2)}):
        assert read_video(folder, **part).first_file_number == first_number


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        (
            ["f1.png", "f2.png", "f4.png", "f7.png"],
            "has no file with number 3, 5-6; frames are",
        ),
        (["33.png", "66.png", "100.png", "200.png"], "has numbers in steps of 34, but from 100 to 200;"),
        (
            ["9.9.png", "10.png", "10.1.png", "10.4.png"],
            "in steps of 0.1, but from 10.1 to 10.4;",
        ),
        (["v1.001.png", "v1.002.png", "v2.001.png"], "but from 1.002 to 2.001;"),
        (
            ["v1_8.png", "v1_9.png", "v2_7.png"],
            "that change, such as v2_7.png; .* order v1_8.png to v2_7",
        ),
        (["01-02-2024.png", "02-01-2024.png"], "several numbers that change"),
        (
            ["cover.png", "f1.png", "f2.png"],
            "not look alike, such as f1.png and cover.png; .* cover.png to f2",
        ),
        (["a.png", "b.png"], "do not look alike"),
        (["1.00.00b.png", "11.59.58a.png", "11.59.59a.png", "12.00.00b.png"], "do not look alike"),
        (["f_-2.png", "f_-1.png"], "negative numbers alone, -2 in f_-2.png; .* f_-2.png to f_-1.png"),
    ],
    ids=lambda names: names[0] if isinstance(names, list) else "",
)
def test_a_doubtful_order_is_warned_about_once(tmp_path, names, doubt):
    folder = folder_of(tmp_path / "plate", names)
    with pytest.warns(TrackerWarning) as caught:
        assert frames_read(folder) == list(range(len(names)))
    assert len(caught) == 1
    assert re.search(doubt, str(caught[0].message))
    assert str(caught[0].message).startswith(f"{folder}: ")


@pytest.mark.filterwarnings("error")
def test_numbers_missing_outside_the_part_read_do_not_matter(tmp_path):
    folder = folder_of(tmp_path / "plate", ["1.png", "3.png", "4.png", "5.png", "9.png"])
    assert frames_read(folder, frames=(1, 3)) == [1, 2, 3]


@pytest.mark.parametrize(
    "names",
    [
        ["00000.jpg", "00000.png", "00001.jpg", "00001.png"],
        ["shot.1.png", "shot.1_mask.png", "shot.2.png", "shot.2_mask.png"],
        ["left_1.png", "left_2.png", "right_1.png", "right_2.png"],
        ["f1.png", "f2 (1).png", "f2.png"],
        ["f01.png", "f1.png"],
    ],
    ids=lambda names: names[1],
)
def test_one_frame_in_two_files_is_refused(tmp_path, names):
    folder = folder_of(tmp_path / "plate", names)
    with pytest.raises(VideoError, match=rf"^{folder}: .* have the number of one frame; keep one file"):
        read_video(folder)


def test_numbers_that_may_be_decimal_or_not_are_refused(tmp_path):
    folder = folder_of(tmp_path / "plate", ["v0.1.png", "v0.15.png", "v0.3.png"])
    with pytest.raises(VideoError, match=r"whether v0\.\d+\.png has a decimal number; rename the files"):
        read_video(folder)


def test_a_frame_that_is_no_plain_file_is_refused_by_name(tmp_path):
    folder = folder_of(tmp_path / "plate", ["1.png", "2.png"])
    frame = folder / "3.png"
    for make, undo, what in (
        (lambda: frame.symlink_to("gone"), frame.unlink, "a link to a file that is not there"),
        (lambda: frame.symlink_to("3.png"), frame.unlink, "not to be found"),
        (frame.mkdir, frame.rmdir, "a folder"),
        (lambda: os.mkfifo(frame), frame.unlink, "a pipe"),
        (lambda: frame.symlink_to("/dev/zero"), frame.unlink, "a device"),
    ):
        make()
        with pytest.raises(VideoError, match=rf"^{frame}: is {what}.*; restore it, or take it out"):
            read_video(folder)
        undo()
    assert frames_read(folder) == [0, 1]


def test_hidden_files_and_other_extensions_are_no_frames(tmp_path):
    folder = folder_of(tmp_path / "plate", ["1.png", "2.png"])
    for name in (".3.png", "4.txt", "Thumbs.db"):
        (folder / name).touch()
    assert frames_read(folder) == [0, 1]
    assert [file.name for file in image_files(folder)] == ["1.png", "2.png"]


def test_frames_counted_by_their_files_numbers_miss_none(tmp_path):
    folder = folder_of(tmp_path / "plate", [f"{number}.png" for number in (1001, 1002, 1003, 1005)])
    with pytest.raises(VideoError, match=r"no file with number 1004, so frames counted from 1001 .*copies"):
        read_video(folder, start_frame=1001)
    assert read_video(folder, start_frame=1001, frames=(1001, 1003)).start_frame == 1001
    with pytest.warns(TrackerWarning, match="later numbers are too low"):
        assert read_video(folder).frame_count == 4


@pytest.mark.parametrize("name", ["shot.%04d.png", "shot.####.png", "shot.*.png"])
def test_a_pattern_of_frames_is_answered_with_their_folder(tmp_path, name):
    with pytest.raises(VideoError, match="give the folder that holds the frames"):
        read_video(tmp_path / name)


def test_one_frame_or_a_folder_of_videos_is_answered_with_what_to_give(tmp_path):
    folder = folder_of(tmp_path / "plate", ["1.tif", "2.tif"])
    with pytest.raises(VideoError, match="give the folder of all its frames"):
        read_video(folder / "1.tif")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "cat.mp4").touch()
    with pytest.raises(VideoError, match=r"is a folder of videos, such as cat.mp4; give one of them"):
        read_video(tmp_path / "clips")


def test_frames_asked_for_by_their_files_numbers_are_answered_with_the_start_frame(tmp_path):
    folder = folder_of(tmp_path / "plate", ["1001.png", "1002.png", "1003.png"])
    with pytest.raises(VideoError, match="first file has the number 1001, so give --start-frame 1001"):
        read_video(folder, frames=(1001, 1002))


def test_a_warning_points_to_the_line_of_whoever_called(tmp_path):
    folder = folder_of(tmp_path / "plate", ["1.png", "2.png", "4.png"])
    with pytest.warns(TrackerWarning) as told:
        read_video(folder)
    assert {warning.filename for warning in told} == {__file__}
