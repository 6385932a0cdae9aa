"""Multi-page TIFF and animated WebP: every picture is read, and a file cut short is refused."""

import numpy as np
import pytest
from PIL import Image

from t4g_tracker.errors import VideoError
from t4g_tracker.image_sequences import image_files
from t4g_tracker.video import read_video

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
        with pytest.raises(VideoError, match=f"{cut}: cannot be read as .* cut short, damaged"):
            read_video(cut)


def test_pictures_of_different_sizes_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", [Image.new("RGB", (6, 4)), Image.new("RGB", (8, 4))])
    with pytest.raises(VideoError, match=r"pictures differ in size \(6x4, 8x4\)"):
        read_video(path)


def test_one_picture_makes_no_track(tmp_path):
    with pytest.raises(VideoError, match="has 1 frame, but a track needs at least 2"):
        read_video(save(tmp_path / "a.webp", [Image.new("RGB", (6, 4))]))


def test_the_first_files_of_a_folder_are_the_first_in_natural_order(tmp_path):
    for name in ("10.png", "2.png", "1.png", ".0.png", "0.bmp"):
        (tmp_path / name).touch()
    assert [file.name for file in image_files(tmp_path, 2)] == ["1.png", "2.png"]
    assert [file.name for file in image_files(tmp_path)] == ["1.png", "2.png", "10.png"]
