"""Query points: what a file, a grid or a mask says is what is followed, or one clear line says why not."""

import codecs
import json
import os

import numpy as np
import pytest
import torch

from t4g_tracker.datatypes import Video
from t4g_tracker.errors import QueryError, TrackerWarning
from t4g_tracker.inputs.queries import grid_queries, read_queries
from t4g_tracker.inputs.query_table import MOST_POINTS

VIDEO = Video(np.zeros((80, 36, 64, 3), np.uint8), 24.0, "dog", "assets/dog.mp4")


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def write_text(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def message_of(path):
    """The one line that reading ``path`` fails with; it begins with the file."""
    with pytest.raises(QueryError) as caught:
        read_queries(path, VIDEO)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "q.json",
            '{"queries": [{"frame": 0, "x": 12.5, "y": 30, "name": "nose"}, {"frame": 79, "x": 1, "y": 2}]}',
        ),
        ("q.json", '[{"y": 30, "x": 12.5, "frame": 0.0, "name": "nose"}, [79, 1, 2]]'),
        ("q.csv", "frame,x,y,name\n0,12.5,30,nose\n79,1,2,\n"),
        ("q.CSV", "Name, y, x, frame\r\nnose, 30, 12.5, 0\r\n\r\n, 2, 1, 79\r\n"),
        ("q.csv", '0,12.5,30,"nose"\n79,1,2,'),
    ],
)
@pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8])
def test_every_text_form_gives_the_same_points(tmp_path, name, text, bom):
    path = tmp_path / name
    path.write_bytes(bom + text.encode())
    queries = read_queries(path, VIDEO)
    assert queries.frame.tolist() == [0, 79]
    assert queries.xy.tolist() == [[12.5, 30.0], [1.0, 2.0]]
    assert queries.names == ("nose", "point-1")
    assert (queries.frame.dtype, queries.xy.dtype) == (torch.int64, torch.float32)


def test_numpy_files_hold_frame_then_x_then_y(tmp_path):
    np.save(tmp_path / "q.npy", np.array([[3, 40, 20]]))
    queries = read_queries(tmp_path / "q.npy", VIDEO)
    assert (queries.frame.tolist(), queries.xy.tolist()) == ([3], [[40.0, 20.0]])
    assert queries.names == ("point-0",)


def test_the_tracks_we_write_can_be_read_back_as_queries(tmp_path):
    rows = np.array([[3, 40.25, 20], [5, 63, 35]], np.float32)
    path = write_npz(
        tmp_path / "tracks.npz",
        queries=rows,
        names=np.array(["нос", "尾"]),
        tracks=np.zeros((2, 80, 2)),
        fps=24,
    )
    queries = read_queries(path, VIDEO)
    assert queries.names == ("нос", "尾")
    assert queries.xy.tolist() == [[40.25, 20.0], [63.0, 35.0]]


def test_names_that_are_filled_in_never_repeat_one_that_was_given(tmp_path):
    path = write_text(tmp_path / "q.csv", "0,1,1,point-1\n0,2,2,\n0,3,3,point-3\n0,4,4,")
    assert read_queries(path, VIDEO).names == ("point-1", "point-4", "point-3", "point-5")


@pytest.mark.parametrize(("x", "y", "fits"), [(-0.5, 35.5, True), (63.5, -0.5, True), (63.51, 0, False)])
def test_a_point_may_lie_on_the_outer_half_of_a_border_pixel(tmp_path, x, y, fits):
    path = write_text(tmp_path / "q.csv", f"0,{x},{y}")
    if fits:
        assert read_queries(path, VIDEO).xy.tolist() == [[x, y]]
    else:
        assert "x must be 0 to 63" in message_of(path)


def test_a_frame_past_the_end_is_answered_with_the_frames_there_are(tmp_path):
    path = write_text(tmp_path / "q.json", json.dumps([[0, 1, 1]] * 7 + [[96, 1, 1]]))
    assert message_of(path) == (
        f"{path}: query point 7 is in frame 96, but assets/dog.mp4 has 80 frames (0-79); frames count from 0"
    )


BAD_TEXT = [
    ("q.json", "", ["empty"]),
    ("q.csv", "\ufeff\n", ["no query points"]),
    ("q.pdf", "0,1,2", [".pdf", ".json, .csv, .tsv, .txt, .npy, .npz"]),
    ("q", "0,1,2", ["no extension"]),
    ("q.json", "[[0, 1, 2],\n [0, 1 2]]", ["line 2, column 8", "not valid JSON"]),
    pytest.param("q.json", "[" * 100_000, ["not valid JSON"], id="deep"),
    ("q.json", "3", ["list of points"]),
    ("q.json", '{"querys": []}', ["querys", "did you mean queries?"]),
    (
        "q.json",
        '{"points": [[0, 1, 1]]}',
        ["'points' is not a field; write", '{"queries": [{"frame": 0, "x"'],
    ),
    ("q.json", '{"frame": 0, "x": 1, "y": 1}', ["'frame' is not a field; write", "or the list alone"]),
    ("q.json", '[[0, 9, 9], {"frame": 0, "frame": 5, "x": 9, "y": 9}]', ["point 1: has 'frame' twice"]),
    ("q.json", '{"queries": [[0, 9, 9]], "queries": [[1, 9, 9]]}', ["the top level: has 'queries' twice"]),
    ("q.json", '[{"frame": 0, "x": {"x": 1}, "y": 1}]', ["x must be a number, got an object"]),
    ("q.json", "[]", ["no query points"]),
    ("q.json", "[[0, 1]]", ["query point 0", "the frame is missing", "[0, x, y]"]),
    ("q.json", "[[0, 1, 2, 3]]", ["query point 0", "[frame, x, y]"]),
    ("q.json", '[{"frame": 0, "x": 1}]', ["query point 0: has no y"]),
    ("q.json", '[{"frme": 0, "x": 1, "y": 1}]', ["'frme'", "did you mean frame?"]),
    ("q.json", '[{"frame": 0, "x": "1", "y": 1}]', ["query point 0: x must be a number, got the text '1'"]),
    ("q.json", '[{"frame": true, "x": 1, "y": 1}]', ["frame must be a number, got true"]),
    ("q.json", '[{"frame": 0, "x": 1, "y": 1, "name": 5}]', ["name must be text, got 5"]),
    ("q.json", "[[0, NaN, 1]]", ["x must be a finite number, got nan"]),
    pytest.param("q.json", f"[[0, 1, 1{'0' * 400}]]", ["y must be a finite number, got inf"], id="long"),
    ("q.json", "[[0.5, 1, 1]]", ["frame must be a whole number, got 0.5"]),
    ("q.json", "[[-1, 1, 1]]", ["query point 0 is in frame -1"]),
    (
        "q.json",
        '[[0,1,1], {"frame":0,"x":-3,"y":9,"name":"tail"}]',
        ["query point 1 (tail) is at x = -3", "0 to 63"],
    ),
    ("q.json", "[[0, 5, 36]]", ["y = 36", "y 0 to 35"]),
    (
        "q.json",
        '[{"frame":0,"x":1,"y":1,"name":"a"},[0,2,2],{"frame":1,"x":1,"y":1,"name":"a"}]',
        ["query point 2 (a)", "query point 0 (a)"],
    ),
    ("q.csv", "frame,x,y", ["no query points"]),
    ("q.csv", "frame,x,z\n0,1,1", ["line 1", "'z'"]),
    ("q.csv", "frame,x,name\n0,1,nose", ["line 1", "no column y"]),
    ("q.csv", "frame,x,x,y\n0,1,1,1", ["line 1", "two columns x"]),
    ("q.csv", "0|1|2", ["line 1", "1 column", "commas"]),
    ("q.csv", "0,1,2\n\n0,1", ["line 3", "2 columns, expected 3"]),
    ("q.csv", "frame,y,x\n0,1,2\n0,1,l2", ["line 3, column 3 (x)", "'l2'"]),
    ("q.csv", "0,1,inf", ["query point 0 on line 1: y must be a finite number"]),
    ("q.csv", '0,1,2,"nose\n', ["line 1", "not valid CSV"]),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD_TEXT)
def test_bad_text_is_refused_with_the_place_and_the_remedy(tmp_path, name, text, said):
    message = message_of(write_text(tmp_path / name, text))
    for words in said:
        assert words in message


def test_a_file_that_is_missing_or_not_utf8_is_named(tmp_path):
    assert "no such file" in message_of(tmp_path / "gone.json")
    latin = tmp_path / "q.json"
    latin.write_bytes("[é]".encode("latin-1"))
    assert "not UTF-8 text (byte 1)" in message_of(latin)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"points": np.zeros((1, 3))}, ["no array named queries", "points"]),
        ({"queries": np.zeros((3, 2))}, ["(N, 3)", "(3, 2)"]),
        ({"queries": np.zeros((0, 3))}, ["no query points"]),
        ({"queries": np.full((1, 3), "a")}, ["must hold numbers"]),
        ({"queries": np.zeros((2, 3)), "names": ["a"]}, ["2 query points but names of shape (1,)"]),
        ({"queries": np.array([[0, 1, np.inf]])}, ["query point 0: y must be a finite number"]),
        ({"queries": np.array([[None, 1, 1]])}, ["pickled"]),
        ({"queries": np.zeros((1, 3), complex)}, ["must hold numbers", "complex128"]),
        ({"queries": np.zeros((1, 3)), "names": np.array([b"nose"])}, ["names must be text, got |S4"]),
        ({"queries": np.zeros((1, 3)), "names": np.array([7])}, ["names must be text, got int64"]),
    ],
)
def test_bad_arrays_are_refused_with_what_they_hold(tmp_path, arrays, said):
    message = message_of(write_npz(tmp_path / "q.npz", **arrays))
    for words in said:
        assert words in message


def test_cut_short_or_pickled_numpy_files_are_refused_and_never_unpickled(tmp_path):
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object))
    assert "pickled" in message_of(tmp_path / "pickled.npy")
    whole = write_npz(tmp_path / "whole.npz", queries=np.zeros((9, 3)))
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:200])
    assert "cut short" in message_of(tmp_path / "cut.npz")
    (tmp_path / "zero.npy").touch()
    assert "empty" in message_of(tmp_path / "zero.npy")


@pytest.mark.parametrize("suffix", ["json", "csv", "npz"])
def test_pipes_devices_and_folders_are_refused_and_not_waited_for(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"endless.{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"folder.{suffix}").mkdir()
    assert "is a pipe; give" in message_of(tmp_path / f"pipe.{suffix}")
    assert "is a device; give" in message_of(tmp_path / f"endless.{suffix}")
    assert "is a folder" in message_of(tmp_path / f"folder.{suffix}")


def test_a_file_too_large_is_not_read(tmp_path):
    with (tmp_path / "q.json").open("wb") as file:
        file.truncate(5 * 10**7)
    assert "has 50 MB, more than the 34 MB that are read" in message_of(tmp_path / "q.json")


def test_more_points_than_one_run_can_track_are_refused_at_once(tmp_path):
    count = MOST_POINTS + 1
    np.save(tmp_path / "q.npy", np.zeros((count, 3), np.float32))
    write_text(tmp_path / "q.json", "[" + "[0,1,1]," * MOST_POINTS + "[0,1,1]]")
    write_text(tmp_path / "q.csv", "frame,x,y\n" + "0,1,1\n" * count)
    for name in ("q.npy", "q.json", "q.csv"):
        said = message_of(tmp_path / name)
        assert f"query points, but one run tracks at most {MOST_POINTS}; split" in said
    write_text(tmp_path / "q.json", '{"queries": [' + "[]," * MOST_POINTS + "[]]}")
    assert f"holds {count} query points" in message_of(tmp_path / "q.json")
    large = Video(np.zeros((2, 400, 400, 3), np.uint8), 24.0, "large", "large.mp4")
    with pytest.raises(QueryError, match=f"the grid has 160000 points, but .* at most {MOST_POINTS}"):
        grid_queries(large, 400)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("\ud800", "U+D800"),  # cannot be written as UTF-8
        ("nose\0", "U+0000"),  # numpy would write nose
        ("no\nse", "U+000A"),
        ("n" * 201, "has 201 characters; give at most 200"),
    ],
)
def test_names_that_results_cannot_hold_are_refused_before_any_work(tmp_path, name, said):
    path = write_text(tmp_path / "q.json", json.dumps([{"frame": 0, "x": 1, "y": 2, "name": name}]))
    message = message_of(path)
    assert said in message
    message.encode()


def test_longdouble_is_read_and_float16_is_warned_of_where_it_rounds(tmp_path):
    np.save(tmp_path / "q.npy", np.array([[3, 40.5, 20]], np.longdouble))
    assert read_queries(tmp_path / "q.npy", VIDEO).xy.tolist() == [[40.5, 20]]
    wide = Video(np.zeros((2, 36, 600, 3), np.uint8), 24.0, "wide", "wide.mp4")
    np.save(tmp_path / "q.npy", np.array([[1, 512.25, 20]], np.float16))
    with pytest.warns(TrackerWarning, match=r"q\.npy: float16 rounds"):
        assert read_queries(tmp_path / "q.npy", wide).xy.tolist() == [[512, 20]]


def test_a_grid_is_square_centred_and_as_wide_as_asked():
    queries = grid_queries(VIDEO, across=8, frame=2)
    xy = queries.xy.reshape(4, 8, 2)  # 64 / 8 = 8 px apart, so 4 rows fit into 36 px
    torch.testing.assert_close(xy[0, :, 0], torch.arange(8.0) * 8 + 3.5)
    torch.testing.assert_close(xy[:, 0, 1], torch.arange(4.0) * 8 + 5.5)
    torch.testing.assert_close(queries.xy.mean(0), torch.tensor([31.5, 17.5]))
    assert set(queries.frame.tolist()) == {2}
    assert len(set(queries.names)) == len(queries) == 32


def test_a_grid_as_fine_as_the_pixels_names_each_pixel_once():
    assert set(map(tuple, grid_queries(VIDEO, 64).xy.tolist())) == {
        (x, y) for x in range(64) for y in range(36)
    }


def test_a_grid_inside_a_mask_spans_the_object():
    mask = np.zeros((36, 64), bool)
    mask[10:20, 40:60] = True
    mask[10:15, 40:50] = False  # no top left quarter
    queries = grid_queries(VIDEO, across=4, mask=mask)
    # 20 px of object / 4 = 5 px apart: two rows of four, less the two that lie in the hole.
    expected = [[52.0, 12.0], [57.0, 12.0], [42.0, 17.0], [47.0, 17.0], [52.0, 17.0], [57.0, 17.0]]
    assert queries.xy.tolist() == expected


def test_impossible_grids_are_refused():
    ring = np.zeros((36, 64), bool)
    ring[5:30, 5:30] = True
    ring[8:27, 8:27] = False
    for arguments, said in [
        ({"across": 0}, "got 0"),
        ({"across": 65}, "1 to 64 points across"),
        ({"across": 4, "frame": 80}, "has 80 frames (0-79), but the grid is in frame 80; choose one"),
        ({"across": 4, "frame": -1}, "frame -1"),
        ({"across": 1, "mask": ring}, "give more than 1 points across"),
        ({"across": 1, "mask": np.zeros((36, 64), bool)}, "nothing inside"),
        ({"across": 1, "mask": np.ones((64, 36), bool)}, "is 36x64 pixels, but assets/dog.mp4 is 64x36"),
    ]:
        with pytest.raises(QueryError) as caught:
            grid_queries(VIDEO, **arguments)
        assert str(caught.value).startswith("assets/dog.mp4: ")
        assert said in str(caught.value)
