"""Reading videos: good input comes out as a viewer sees it, bad input is refused in one clear line."""

import os
import re
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_videos import message_of, moving_square, write_video

from t4g_tracker.coordinates import resize_frames
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import TrackerWarning, VideoError
from t4g_tracker.inputs.video import content_hash, read_video, working_frames


def write_folder(path, images):
    path.mkdir()
    for name, image in images.items():
        Image.fromarray(image).save(path / name)
    return path


def assert_corners(frame):
    """Red at the top left and blue at the bottom right, as far as lossy coding keeps them."""
    np.testing.assert_allclose(frame[4, 4], [255, 0, 0], atol=40)
    np.testing.assert_allclose(frame[-5, -5], [0, 0, 255], atol=40)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "size"),
    [
        ("a dog's день 犬.mp4", "libx264", "yuv420p", (32, 48)),
        ("clip.webm", "libvpx", "yuv420p", (32, 48)),
        ("clip.avi", "mpeg4", "yuv420p", (32, 48)),
        ("clip.ts", "libx264", "yuv420p", (32, 48)),
        ("clip.gif", "gif", "rgb8", (32, 48)),
        ("ten_bit.mkv", "ffv1", "yuv420p10le", (32, 48)),
        ("odd_portrait.mkv", "ffv1", "yuv420p", (63, 47)),
    ],
)
def test_any_container_gives_every_frame_at_its_size(tmp_path, name, codec, pixels, size):
    path = write_video(tmp_path / name, moving_square(9, *size), codec, pixels)
    video = read_video(path)
    assert video.frames.shape == (9, *size, 3)
    assert video.frames.dtype == np.uint8
    assert video.fps == pytest.approx(24, rel=0.01)  # gif counts in 1/100 s
    assert (video.name, video.source) == (path.stem, str(path))
    assert_corners(video.frames[0])
    assert_corners(video.frames[-1])


def test_lossless_frames_come_back_exactly_and_in_order(tmp_path):
    frames = moving_square(3)
    video = read_video(write_video(tmp_path / "a:b.avi", frames, "rawvideo", "bgr24"))
    np.testing.assert_array_equal(video.frames, frames)
    assert video.name == "a_b"  # the name makes a folder on any system


@pytest.mark.parametrize("wanted", [5, 24, 30])
def test_first_frames_are_the_first_of_all(tmp_path, wanted):
    file = write_video(tmp_path / "a.mp4", moving_square(24, 96, 128), "libx264")
    (tmp_path / "frames").mkdir()
    every = read_video(file).frames
    for index, frame in enumerate(every):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{index}.png")
    for source in (file, tmp_path / "frames"):
        np.testing.assert_array_equal(read_video(source, wanted).frames, every[:wanted])


@pytest.mark.parametrize("start_frame", [0, 1001])
def test_a_range_of_frames_is_part_of_all_and_keeps_its_numbers(tmp_path, start_frame):
    frames = moving_square(12)
    file = write_video(tmp_path / "a.avi", frames, "rawvideo", "bgr24")
    folder = write_folder(tmp_path / "f", {f"{index}.png": frame for index, frame in enumerate(frames)})
    stack = tmp_path / "a.tif"
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(stack, save_all=True, append_images=others)
    for source in (file, folder, stack):
        for asked in ((0, 11), (3, 7), (10, 11)):
            numbers = (asked[0] + start_frame, asked[1] + start_frame)
            video = read_video(source, frames=numbers, start_frame=start_frame)
            np.testing.assert_array_equal(video.frames, frames[asked[0] : asked[1] + 1])
            assert video.start_frame == numbers[0]
        assert read_video(source, start_frame=start_frame).start_frame == start_frame


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ((10, 14), r"has frames 5-14, but 10-15 are"),
        ((30, 40), r"ends before frame 30, but 30-40 are"),
        ((4, 9), "begins with frame 5"),
        ((9, 9), "fewer than 2"),
        ((9, 7), "fewer than 2"),
    ],
)
def test_frames_that_are_not_there_are_refused(tmp_path, frames, reason):
    path = write_video(tmp_path / "a.avi", moving_square(10), "rawvideo", "bgr24")
    if frames == (10, 14):
        assert len(read_video(path, frames=frames, start_frame=5).frames) == 5
        frames = (10, 15)
    with pytest.raises(VideoError, match=reason):
        read_video(path, frames=frames, start_frame=5)


def test_damage_after_the_first_frames_does_not_matter_to_them(tmp_path):
    frames = moving_square(24)
    whole = write_video(tmp_path / "whole.avi", frames, "rawvideo", "bgr24")
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "cut short or damaged" in message_of(cut)
    np.testing.assert_array_equal(read_video(cut, 5).frames, frames[:5])


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_variable_frame_rate_is_no_damage(tmp_path, extension):
    # The last picture stands still for 9 of 10 seconds, as in a screen recording.
    times = [0, 1, 2, 10, 11, 24, 240]
    video = read_video(write_video(tmp_path / f"vfr.{extension}", moving_square(7), times=times))
    assert video.frame_count == 7


def test_a_healthy_file_trimmed_by_an_edit_list_is_taken(tmp_path):
    data = bytearray(write_video(tmp_path / "whole.mp4", moving_square(48)).read_bytes())
    at = data.index(b"elst") + 12
    data[at : at + 4] = struct.pack(">I", 1000)  # show 1000 ms of the 2000
    (tmp_path / "trimmed.mp4").write_bytes(data)
    assert read_video(tmp_path / "trimmed.mp4").frame_count == 24


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
        ((0, -1, 1, 0), lambda frame: np.rot90(frame, 1)),
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),  # a front camera
        ((0, 1, 1, 0), lambda frame: frame.swapaxes(0, 1)),
    ],
)
def test_frames_are_turned_as_the_display_matrix_asks(tmp_path, matrix, shown):
    data = bytearray(write_video(tmp_path / "plain.mp4", moving_square(3)).read_bytes())
    plain = read_video(tmp_path / "plain.mp4").frames
    at = data.index(b"tkhd") + 44
    a, b, c, d = (number << 16 for number in matrix)
    data[at : at + 20] = struct.pack(">5i", a, b, 0, c, d)
    (tmp_path / "turned.mp4").write_bytes(data)
    turned = read_video(tmp_path / "turned.mp4").frames
    np.testing.assert_array_equal(turned, np.stack([shown(frame) for frame in plain]))


def test_a_turn_by_another_angle_is_told(tmp_path):
    data = bytearray(write_video(tmp_path / "plain.mp4", moving_square(3)).read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 20] = struct.pack(">5i", 46341, 46341, 0, -46341, 46341)  # 45 degrees
    (tmp_path / "turned.mp4").write_bytes(data)
    with pytest.warns(TrackerWarning, match="an angle that is no multiple of 90 degrees"):
        read_video(tmp_path / "turned.mp4")


@pytest.mark.parametrize(
    ("extension", "codec", "muxer"),
    [
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("mkv", "libx264", {}),
        ("webm", "libvpx", {}),
        ("avi", "mpeg4", {}),
    ],
)
@pytest.mark.parametrize("part", [0.5, 0.8])
def test_a_video_cut_short_says_how_much_can_be_read(tmp_path, extension, codec, muxer, part):
    whole = write_video(tmp_path / f"whole.{extension}", moving_square(24, 96, 128), codec, **muxer)
    assert read_video(whole).frame_count == 24
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{extension}"
    cut.write_bytes(data[: int(len(data) * part)])
    message = message_of(cut)
    assert "cut short or damaged" in message
    assert "ffmpeg -i" in message
    if "frag" not in str(muxer):  # fragments tell no total
        assert "of 24 frames can be read" in message


def test_an_mp4_that_lost_its_index_is_told_from_a_file_that_is_no_video(tmp_path):
    data = write_video(tmp_path / "whole.mp4", moving_square()).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:-2000])
    assert "moov atom" in message_of(tmp_path / "cut.mp4")
    for name in ("text.mp4", "text.txt"):
        (tmp_path / name).write_text("hello world\n" * 50)
        assert "is not a video" in message_of(tmp_path / name)


def test_missing_and_empty_paths_are_named(tmp_path):
    assert "no such file or folder" in message_of(tmp_path / "gone.mp4")
    (tmp_path / "zero.mp4").touch()
    assert "empty (0 bytes)" in message_of(tmp_path / "zero.mp4")


@pytest.mark.parametrize(
    "address", ["https://example.com/x.mp4", "HTTP://example.com/x.mp4?a=b", "rtsp://camera:554/live"]
)
def test_a_web_address_is_no_path(address):
    for given in (address, Path(address)):  # a Path loses one slash
        with pytest.raises(VideoError, match=rf"^{re.escape(address)}: is a web address; download it first$"):
            read_video(given)


def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", Path("/dev/zero")):
        assert "; save the video as a file and give that" in message_of(path)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_pictures_that_ffmpeg_cannot_decode_are_to_be_exported(tmp_path):
    first, *others = (Image.fromarray(frame) for frame in moving_square(3))
    first.save(tmp_path / "a.webp", save_all=True, append_images=others)
    (tmp_path / "a.webp").rename(tmp_path / "a.dat")  # by its own extension Pillow reads it
    assert "or export it as mp4, or its frames as a folder of png" in message_of(tmp_path / "a.dat")
    known = write_video(tmp_path / "known.mkv", moving_square(3), "ffv1").read_bytes()
    (tmp_path / "a.mkv").write_bytes(known.replace(b"V_FFV1", b"V_XYZ1"))
    assert "FFmpeg has no decoder for it here; export it as mp4" in message_of(tmp_path / "a.mkv")


def test_a_moving_avif_is_read_and_not_the_still_beside_it(tmp_path):
    images = [Image.fromarray(frame) for frame in moving_square(3, 64, 96)]
    images[0].save(tmp_path / "a.avif", save_all=True, append_images=images[1:], duration=100)
    video = read_video(tmp_path / "a.avif")
    assert video.frames.shape == (3, 64, 96, 3)
    assert_corners(video.frames[0])


def test_one_frame_makes_no_track(tmp_path):
    reason = "has 1 frame, but a track needs at least 2 frames"
    assert reason in message_of(write_video(tmp_path / "one.mp4", moving_square(1)))
    assert reason in message_of(write_folder(tmp_path / "one", {"0.png": moving_square(1)[0]}))
    assert reason in message_of(tmp_path / "one" / "0.png")


def test_a_song_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    assert "no video stream, only audio; give a file with moving pictures" in message_of(
        tmp_path / "song.mp4"
    )


def test_a_cover_image_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        container.mux(stream.encode(av.VideoFrame.from_ndarray(moving_square(1)[0], format="rgb24")))
        container.mux(stream.encode())
    assert "no video stream, only a cover image; give" in message_of(tmp_path / "song.mp4")


def test_a_folder_is_read_in_natural_order_and_nothing_else_is_read(tmp_path):
    frames = moving_square(3)
    images = {"frame10.png": frames[2], "Frame9.PNG": frames[1], "frame8.png": frames[0]}
    folder = write_folder(tmp_path / "мой клип.v2", {**images, ".hidden.png": frames[0]})
    (folder / "notes.txt").write_text("not a frame")
    (folder / "masks").mkdir()
    video = read_video(str(folder))
    np.testing.assert_array_equal(video.frames, frames)
    assert (video.fps, video.name, video.source) == (24.0, "мой клип.v2", str(folder))


def with_alpha(frame):
    return Image.fromarray(np.dstack([frame, np.zeros(frame.shape[:2], np.uint8)]))


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("grey.png", Image.new("L", (6, 4), 77), [77, 77, 77]),
        ("deep.png", Image.fromarray(np.full((4, 6), 77 * 256 + 200, np.uint16)), [77, 77, 77]),
        ("palette.png", Image.new("RGB", (6, 4), (9, 99, 199)).convert("P", palette=1), [9, 99, 199]),
        ("alpha.png", with_alpha(np.full((4, 6, 3), 77, np.uint8)), [77, 77, 77]),
        ("grey_alpha.png", Image.new("LA", (6, 4), (77, 0)), [77, 77, 77]),
        ("bits.png", Image.new("1", (6, 4), 1), [255, 255, 255]),
        ("cmyk.jpeg", Image.new("CMYK", (6, 4), (0, 255, 255, 0)), [255, 0, 0]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_unusual_images_are_taken_as_8_bit_rgb(tmp_path, name, image, expected):
    (tmp_path / "clip").mkdir()
    for index in range(2):
        image.save(tmp_path / "clip" / f"{index}{name}")
    frames = read_video(tmp_path / "clip").frames
    assert frames.shape == (2, 4, 6, 3)
    np.testing.assert_allclose(frames.reshape(-1, 3) - np.array(expected, int), 0, atol=2)


def test_exif_rotation_is_applied(tmp_path):
    folder = write_folder(tmp_path / "clip", {"0.jpg": np.rot90(moving_square(1)[0], -1)})
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    Image.fromarray(moving_square(1)[0]).save(folder / "1.jpg", exif=exif)
    frames = read_video(folder).frames
    np.testing.assert_allclose(frames[1].mean((0, 1)), frames[0].mean((0, 1)), atol=2)
    np.testing.assert_allclose(frames[1][4, -5], [255, 0, 0], atol=40)


@pytest.mark.filterwarnings("ignore:.*do not look alike")
def test_bad_folders_name_the_frame(tmp_path):
    good, wide = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 8, 3), np.uint8)
    assert "holds no frames" in message_of(write_folder(tmp_path / "empty", {}))
    mixed = write_folder(tmp_path / "mixed", {"0.png": good, "1.png": good, "2.png": wide, "3.png": good})
    assert "0.png is 6x4 and 2.png is 8x4" in message_of(mixed)
    for name, data in [("text.png", b"not an image"), ("zero.jpg", b"")]:
        folder = write_folder(tmp_path / name, {"0.png": good})
        (folder / name).write_bytes(data)
        assert f"{folder / name}: is not an image" in message_of(folder)
    cut = write_folder(tmp_path / "cut", {"0.jpg": moving_square(1)[0], "1.jpg": moving_square(1)[0]})
    (cut / "1.jpg").write_bytes((cut / "1.jpg").read_bytes()[:-200])
    assert "1.jpg" in message_of(cut)


def test_the_hash_follows_what_is_seen_and_not_what_it_is_called():
    frames = moving_square(3)
    video = Video(frames, 24.0, "a", "a.mp4")
    assert content_hash(video) == content_hash(Video(frames.copy(), 30.0, "b", "b.mp4"))
    changed = frames.copy()
    changed[2, 5, 5, 1] += 1
    turned = frames.reshape(3, frames.shape[2], frames.shape[1], 3)  # same bytes, other shape
    hashes = {content_hash(Video(each, 24.0, "a", "a")) for each in (frames, changed, turned, frames[:2])}
    assert len(hashes) == 4
    assert all(len(each) == 64 and int(each, 16) >= 0 for each in hashes)


def test_working_frames_average_what_they_shrink_and_keep_outer_edges():
    frames = np.zeros((3, 64, 96, 3), np.uint8)
    frames[:, :, 1::2] = 255  # stripes one pixel wide: grey from afar
    frames[:, :32, :, 2] = 0  # no blue in the upper half
    small = working_frames(Video(frames, 24.0, "a", "a"), (16, 24))
    assert (small.shape, small.dtype) == ((3, 3, 16, 24), torch.uint8)
    assert ((small[:, :2].int() - 127).abs() < 20).all()
    assert (small[:, 2, :7] == 0).all()
    assert ((small[:, 2, 9:].int() - 127).abs() < 20).all()


def test_working_frames_are_rounded_and_the_same_in_one_go_and_frame_by_frame(monkeypatch):
    video = Video(moving_square(5), 24.0, "a", "a")
    at_once = working_frames(video, (20, 30))
    exact = resize_frames(torch.tensor(video.frames).permute(0, 3, 1, 2).float(), (20, 30))
    assert (at_once - exact).abs().max() <= 0.5
    monkeypatch.setattr("t4g_tracker.inputs.video._VALUES_PER_CHUNK", 1)
    assert torch.equal(working_frames(video, (20, 30)), at_once)


def test_working_frames_at_the_original_size_are_an_untouched_copy():
    video = Video(moving_square(2), 24.0, "a", "a")
    frames = working_frames(video, video.size)
    np.testing.assert_array_equal(frames.permute(0, 2, 3, 1).numpy(), video.frames)
    frames.zero_()
    assert video.frames.any()
