"""Annotations are looked at before any tracking, and refused by file, clip and item if need be."""

import re
import warnings

import numpy as np
import pytest
from tiny_datasets import davis_tree, tapvid_dict, write_pickle

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.datasets.annotations import checked_annotations
from t4g_tracker.datasets.davis_folder import DavisFolder
from t4g_tracker.datasets.tapvid import PickledClips
from t4g_tracker.errors import DatasetError, TrackerWarning

POINTS, HIDDEN = np.full((2, 5, 2), 0.5), np.zeros((2, 5), bool)


def at(value, point=1, frame=3):
    """Points of which one lies elsewhere."""
    points = POINTS.copy()
    points[point, frame] = value
    return points


def hidden_at(point=1, frame=3):
    hidden = HIDDEN.copy()
    hidden[point, frame] = True
    return hidden


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (
            POINTS * 853,
            "point 0 is visible in frame 0 at (426.5, 426.5), and coordinates go to 426.5; TAP-Vid",
        ),
        (at(1e300), "point 1 is visible in frame 3 at (1e+300, 1e+300), and coordinates go to 1e+300"),
        (at((1.4, 0.2)), "point 1 is visible in frame 3 at (1.4, 0.2), far outside the frame"),
        (at((0.2, -0.3)), "point 1 is visible in frame 3 at (0.2, -0.3), far outside the frame"),
        (at((np.nan, 0.2)), "point 1 is visible in frame 3 at (nan, 0.2), which is no position; mark it"),
        (at(np.inf), "point 1 is visible in frame 3 at (inf, inf), which is no position"),
        (POINTS + 1j, "points must be plain numbers, got complex numbers"),
        (POINTS.astype(str), "points must be plain numbers, got text"),
        (POINTS.astype(object), "points must be plain numbers, got objects"),
        (POINTS > 0, "points must be plain numbers, got truth values"),
        (np.zeros((2, 5, 2), [("x", "f4")]), "points must be plain numbers, got [('x', '<f4')]"),
        (b"junk", "points must be plain numbers, got bytes"),
        ([[[10**400, 1]]], "points must be plain numbers, got objects"),
        ([[1], [1, 2]], "points are not an array"),
        (POINTS[..., :1], "do not fit together"),
        (POINTS[:, :4], "do not fit together"),
    ],
)
def test_points_that_cannot_be_meant_are_refused(points, said):
    with pytest.raises(DatasetError, match=rf"^set\.pkl\[a\]: .*{re.escape(said)}") as caught:
        checked_annotations(points, HIDDEN, 5, "set.pkl[a]")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("occluded", "said"),
    [
        (np.full((2, 5), "False"), "occluded must be plain numbers, got text"),
        (np.full((2, 5), "False", object), "occluded must be plain numbers, got objects"),
        (np.full((2, 5), np.nan), "occluded must be true or false, or 1 and 0; got nan"),
        (np.full((2, 5), 0.3), "occluded must be true or false, or 1 and 0; got 0.3"),
        (np.full((2, 5), 255, np.uint8), "occluded must be true or false, or 1 and 0; got 255"),
        (np.ones((2, 5), bool), "shows none of its 2 points in any frame"),
        (HIDDEN.T, "do not fit together"),
    ],
)
def test_occlusion_that_cannot_be_meant_is_refused(occluded, said):
    with pytest.raises(DatasetError, match=said):
        checked_annotations(POINTS, occluded, 5, "set.pkl[a]")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, 7.0, -1.0])
def test_a_hidden_point_may_be_anywhere(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = checked_annotations(at(value), hidden_at(), 5, "set.pkl[a]")
    assert np.array_equal(found.seen, ~hidden_at())
    assert (found.points[found.seen] == 0.5).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, list])
def test_occlusion_may_be_written_in_numbers(kind):
    occluded = hidden_at().astype(int).tolist() if kind is list else hidden_at().astype(kind)
    assert np.array_equal(checked_annotations(POINTS, occluded, 5, "x").seen, ~hidden_at())


def test_a_visible_point_a_little_outside_is_taken_with_a_warning(slide, ask, tmp_path):
    made = tapvid_dict(slide, ask)
    made["left"]["points"][0, 2] = (1.1, 0.5)
    path = write_pickle(tmp_path / "set.pkl", made)
    with pytest.warns(
        TrackerWarning, match=r"set\.pkl\[left\]: visible points lie outside .*1, by up to 0\.1 of"
    ):
        clip = PickledClips(path).load("left")
    assert clip.truth.xy[0, 2].tolist() == pytest.approx([1.1 * 96 - 0.5, 31.5])
    made["left"]["points"][0, 2] = (1.005, 0.5)  # half a pixel
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PickledClips(write_pickle(path, made)).load("left")


def bench(tmp_path, *arguments):
    places = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    return t4g(["bench", *places, *map(str, arguments)])


def test_a_data_set_in_pixels_is_refused_before_anything_is_tracked(slide, ask, tmp_path, capsys):
    made = tapvid_dict(slide, ask)
    for clip in made.values():
        clip["points"] = clip["points"] * (96, 64)
    path = write_pickle(tmp_path / "set.pkl", made)
    assert bench(tmp_path, "--dataset", "tapvid-davis", "--path", path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}[left]: point 0 is visible in frame 0 at (40.5, 40.5), and")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["folder", "pickle"])
def test_davis_tracks_in_pixels_are_refused_before_anything_is_tracked(slide, ask, tmp_path, layout):
    folder = DavisFolder(davis_tree(tmp_path, slide, ask))
    made = tapvid_dict(slide, ask)
    for name, clip in made.items():
        clip["points"] = clip["points"] * (96, 64)
        np.savez(tmp_path / "tracks" / f"{name}.npz", points=clip["points"], occluded=clip["occluded"])
    if layout == "pickle":
        folder = DavisFolder(tmp_path, write_pickle(tmp_path / "set.pkl", made))
    with pytest.raises(DatasetError, match=r"(left\.npz|set\.pkl\[left\]): point 0 is visible in frame 0"):
        folder.check_annotations(["left", "right"])


def test_a_pickle_of_another_release_is_refused_before_anything_is_tracked(slide, ask, tmp_path):
    made = tapvid_dict(slide, ask)
    for clip in made.values():
        clip |= {
            "video": clip["video"][:5],
            "points": clip["points"][:, :5],
            "occluded": clip["occluded"][:, :5],
        }
    folder = DavisFolder(davis_tree(tmp_path, slide, ask), write_pickle(tmp_path / "set.pkl", made))
    with pytest.raises(
        DatasetError, match=r"left has 5 frames, .*left has 7; give the pickle and the frames"
    ):
        folder.check_annotations(["left", "right"])


def test_of_some_unusable_clips_the_user_is_warned_before_the_others_are_tracked(slide, ask, tmp_path):
    made = tapvid_dict(slide, ask)
    made["right"]["points"] = made["right"]["points"].astype(complex)
    folder = DavisFolder(davis_tree(tmp_path, slide, ask), write_pickle(tmp_path / "set.pkl", made))
    with pytest.warns(
        TrackerWarning, match=r"\[right\]: its points .* complex .*; this clip will fail, the others"
    ):
        folder.check_annotations(["left", "right"])
    with pytest.raises(DatasetError, match=r"\[right\]: its points"):
        folder.check_annotations(["right"])


def test_a_clip_without_a_visible_point_in_its_first_frames_is_told_first(slide, ask, tmp_path, capsys):
    made = {"left": tapvid_dict(slide, ask)["left"]}
    made["left"]["occluded"][:, :3] = True
    path = write_pickle(tmp_path / "set.pkl", made)
    assert bench(tmp_path, "--dataset", "tapvid-davis", "--path", path, "--first-frames", 3) == 2
    assert "[left]: no annotated point is visible in its first 3 frames" in capsys.readouterr().err


def test_frames_that_are_missing_are_told_first(slide, ask, tmp_path, capsys):
    root = davis_tree(tmp_path / "davis", slide, ask)
    for name in ("left", "right"):
        (root / "JPEGImages" / "480p" / name).rename(root / name)
    assert bench(tmp_path, "--data", root) == 2
    assert f"{root / 'JPEGImages' / '480p' / 'left'}: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes(range(256)), "cannot be read as text; write a name on each line"),
        ("left\n".encode("utf-16"), "cannot be read as text; write a name on each line"),
        (b" \n", "names no sequence"),
    ],
)
def test_a_split_that_is_no_text_is_refused(slide, ask, tmp_path, content, said):
    folder = DavisFolder(davis_tree(tmp_path, slide, ask))
    split = tmp_path / "mine.txt"
    split.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"mine\.txt: {said}"):
        folder.sequences(str(split), None)
    split.write_text("\N{ZERO WIDTH NO-BREAK SPACE}left\r\n", encoding="utf-8")  # as Notepad saves it
    assert folder.sequences(str(split), None) == ["left"]


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({10**5000: 1}, "a clip's name is longer than 200 bytes, too long for files of results; rename it"),
        ({"x" * 300: 1}, "a clip's name is longer than 200 bytes, .*; rename xxxxxxxxxxxxxxxxxxxx..."),
        ({1.5: 1}, "a clip's name must be a text, got float"),
        ({}, "holds no clips"),
        ([], "holds no clips"),
    ],
)
def test_clips_whose_names_no_file_can_have_are_refused(tmp_path, stored, said):
    with pytest.raises(DatasetError, match=said):
        PickledClips(write_pickle(tmp_path / "set.pkl", stored))


def test_clips_get_names_that_files_can_have_on_any_system(tmp_path, slide, ask):
    clip = tapvid_dict(slide, ask)["left"]
    stored = dict.fromkeys(["a/b: c", "..", "../up", 7, "half \ud83d"], clip)
    names = PickledClips(write_pickle(tmp_path / "set.pkl", stored)).names()
    assert names == ["a_b_ c", "_", "_up", "7", "half _"]


def test_frames_too_small_to_track_are_refused(slide, ask, tmp_path):
    made = tapvid_dict(slide, ask)
    made["left"]["video"] = np.zeros((7, 1, 1, 3), np.uint8)
    with pytest.raises(DatasetError, match=r"\[left\]: frames of 1x1 are too small; each side needs 16 px"):
        PickledClips(write_pickle(tmp_path / "set.pkl", made)).load("left")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "cannot be read as JSON"),
        ("1" * 10_000, "cannot be read as JSON"),
        ("{}", "is not a list"),
        ("[5]", "item 0 has no image_path"),
    ],
)
def test_badja_files_that_hold_something_else_are_refused(tmp_path, text, said):
    from t4g_tracker.datasets.badja import BadjaClips

    (tmp_path / "joint_annotations").mkdir()
    (tmp_path / "joint_annotations" / "beast.json").write_text(text)
    with pytest.raises(DatasetError, match=rf"beast\.json: {said}") as caught:
        BadjaClips(tmp_path).visibility("beast")
    assert "\n" not in str(caught.value)
