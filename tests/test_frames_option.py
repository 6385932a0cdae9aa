"""--frames reads a part of a video, and everything else that is given for the whole video is cut to it."""

import numpy as np
import pytest
from PIL import Image

from t4g_tracker.commands.compare_features import parse_compare
from t4g_tracker.commands.points import read_foreground_of, request_video
from t4g_tracker.commands.track import parse_track
from t4g_tracker.pipeline import Config
from t4g_tracker.storage.long_arrays import LongArrays


def request(*arguments):
    return parse_track(["--video", "dog.mp4", "--grid", "4", *arguments])


def test_a_range_holds_both_its_ends():
    assert request("--frames", "30-89").frames == (30, 89)
    assert request("--frames=-6--2").frames == (-6, -2)
    assert request().frames is None
    compare = ["--video", "dog.mp4", "--grid", "4", "--features", "patch", "--frames", "3-4"]
    assert parse_compare(compare).frames == (3, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--frames", "30"], "must be the first and the last frame, such as 30-89, got 30"),
        (["--frames", "3..9"], "must be the first and the last frame"),
        (["--frames", "9-3"], "must hold at least 2 frames, the lower number first, got 9-3"),
        (["--frames", "9-9"], "must hold at least 2 frames"),
        (["--frames", "3-9", "--first-frames", "5"], "--first-frames and --frames do not go together"),
    ],
)
def test_a_wrong_range_is_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        request(*arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def write_folder(folder, images):
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return folder


@pytest.mark.parametrize(("start", "asked"), [("0", "3-6"), ("1001", "1004-1007")])
def test_video_and_masks_are_cut_to_the_same_frames(tmp_path, start, asked):
    greys = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((64, 64, 3), np.uint8)
    masks = [np.full((64, 64), 255 * (index == 4), np.uint8) for index in range(10)]
    arguments = ["--video", str(write_folder(tmp_path / "clip", greys)), "--grid", "4", "--frames", asked]
    arguments += ["--foreground", str(write_folder(tmp_path / "masks", masks)), "--start-frame", start]
    given = parse_track(arguments)
    video = request_video(given, Config(), LongArrays())
    np.testing.assert_array_equal(video.frames, greys[3:7])
    assert video.start_frame == int(start) + 3
    assert read_foreground_of(given, video, Config()).any((1, 2)).tolist() == [False, True, False, False]
