"""Tracks on disk: what is written can be read back, and a malformed file is refused in one line."""

import csv
import os
import zipfile

import numpy as np
import pytest
import torch

from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.errors import QueryError
from t4g_tracker.outputs.track_files import (
    read_tracks_file,
    read_tracks_npz,
    write_tracks_csv,
    write_tracks_npz,
)

QUERIES = QueryPoints(
    torch.tensor([0, 2, 1]),
    torch.tensor([[1.25, 2.5], [30.0, 4.0], [7.0, 8.0]]),
    ("nose", "tail, left", "眼"),
)
SIZE, FPS = (36, 64), 29.97


def some_tracks(frames=4):
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand(3, frames, 2, generator=generator) * 30
    return Tracks(
        xy, torch.rand(3, frames, generator=generator) > 0.4, torch.rand(3, frames, generator=generator)
    )


def write_arrays(path, **changes):
    """A tracks.npz with some arrays replaced, or left out where None."""
    write_tracks_npz(path, some_tracks(), QUERIES, SIZE, FPS)
    arrays = dict(np.load(path)) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_tracks_survive_the_npz(tmp_path):
    tracks = some_tracks()
    write_tracks_npz(tmp_path / "tracks.npz", tracks, QUERIES, SIZE, FPS)
    found, queries, size, fps = read_tracks_npz(tmp_path / "tracks.npz")
    assert torch.equal(found.xy, tracks.xy)
    assert torch.equal(found.visibility, tracks.visibility)
    assert torch.equal(found.confidence, tracks.confidence)
    assert torch.equal(queries.frame, QUERIES.frame)
    assert torch.equal(queries.xy, QUERIES.xy)
    assert (queries.names, size, fps) == (QUERIES.names, SIZE, FPS)


def test_the_npz_has_the_arrays_and_types_that_its_readers_expect(tmp_path):
    write_tracks_npz(tmp_path / "tracks.npz", some_tracks(), QUERIES, SIZE, FPS)
    stored = np.load(tmp_path / "tracks.npz", allow_pickle=False)
    said = {name: (stored[name].dtype.kind, stored[name].shape) for name in stored}
    assert said == {
        "tracks": ("f", (3, 4, 2)),
        "visibility": ("b", (3, 4)),
        "confidence": ("f", (3, 4)),
        "queries": ("f", (3, 3)),
        "names": ("U", (3,)),
        "size": ("i", (2,)),
        "fps": ("f", ()),
        "times": ("f", (4,)),
        "start_frame": ("i", ()),
        "pixel_aspect": ("f", ()),
    }
    assert stored["queries"][1].tolist() == [2.0, 30.0, 4.0]
    assert stored["tracks"].dtype == np.float32


def test_the_npz_has_the_time_of_each_frame_and_how_the_video_counts_and_is_shown(tmp_path):
    write_tracks_npz(tmp_path / "even.npz", some_tracks(), QUERIES, SIZE, 25.0)
    even = np.load(tmp_path / "even.npz")
    assert even["times"].tolist() == [0.0, 0.04, 0.08, 0.12]
    assert (int(even["start_frame"]), float(even["pixel_aspect"])) == (0, 1.0)
    known = {"times": np.array([0, 0.1, 0.5, 2.0]), "start_frame": 1001, "pixel_aspect": 2.0}
    write_tracks_npz(tmp_path / "varying.npz", some_tracks(), QUERIES, SIZE, 25.0, **known)
    varying = np.load(tmp_path / "varying.npz")
    assert varying["times"].tolist() == [0.0, 0.1, 0.5, 2.0]
    assert (int(varying["start_frame"]), float(varying["pixel_aspect"])) == (1001, 2.0)
    assert (varying["queries"] == even["queries"]).all()  # indices of the arrays, however the user counts


def test_an_npz_of_an_earlier_version_is_read(tmp_path):
    old = write_arrays(tmp_path / "old.npz", times=None, start_frame=None, pixel_aspect=None)
    found, queries, _, _ = read_tracks_npz(old)
    assert torch.equal(found.xy, some_tracks().xy)
    assert queries.names == QUERIES.names


def test_the_same_tracks_make_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    write_tracks_npz(tmp_path / "a.npz", some_tracks(), QUERIES, SIZE, FPS)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_tracks_npz(tmp_path / "b.npz", some_tracks(), QUERIES, SIZE, FPS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    stamps = {entry.date_time for entry in zipfile.ZipFile(tmp_path / "a.npz").infolist()}
    assert stamps == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visibility": None, "fps": None}, "lacks the array visibility, fps; a tracks.npz holds"),
        ({"tracks": np.zeros((3, 4, 3))}, "tracks must be (points, frames, 2), got (3, 4, 3)"),
        ({"visibility": np.zeros((3, 5), bool)}, "visibility must be (3, 4) to go with tracks (3, 4, 2)"),
        ({"visibility": np.zeros((3, 4))}, "visibility must be bool, got float64"),
        ({"names": np.array(["a", "b"])}, "names must be (3,)"),
        ({"size": np.array(["a", "b"])}, "size must hold numbers"),
        ({"size": np.array([72.5, 64])}, "size must be the height and width of the video, two whole numbers"),
        ({"size": np.array([np.nan, 64])}, "size must be the height and width"),
        ({"size": np.array([36, np.inf])}, "size must be the height and width"),
        ({"size": np.array([-36, 64])}, "size must be the height and width"),
        ({"fps": np.array(np.nan)}, "fps must be a number above 0, got nan"),
        ({"confidence": np.full((3, 4), np.nan)}, "confidence must be in 0..1"),
        ({"names": np.array([1, 2, 3])}, "names must be text, got int64"),
        ({"names": np.array(["a", "b", "a"])}, "query point 2 (a) has the same name as query point 0 (a)"),
        (
            {"queries": np.array([[0, np.nan, 1], [0, 1, 1], [0, 1, 1]])},
            "query point 0: x and y must be",
        ),
        ({"queries": np.full((3, 3), np.nan)}, "query point 0 is in frame nan"),
        ({"start_frame": np.array(2.5)}, "start_frame must be one whole number, got float64"),
        (
            {"queries": np.array([[0, 1, 1], [4, 1, 1], [0, 1, 1.0]])},
            "query point 1 is in frame 4, but tracks",
        ),
        ({"queries": np.array([[0.5, 1, 1], [0, 1, 1], [0, 1, 1]])}, "query point 0 is in frame 0.5"),
        (
            {"tracks": np.full((3, 4, 2), np.nan), "visibility": np.ones((3, 4), bool)},
            "not finite where visibility is true",
        ),
        ({"names": np.array([{}, {}, {}], dtype=object)}, "names holds pickled objects, which are refused"),
    ],
)
def test_a_malformed_npz_is_refused_in_one_line(tmp_path, changes, message):
    path = write_arrays(tmp_path / "gt.npz", **changes)
    with pytest.raises(QueryError) as caught:
        read_tracks_npz(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut", None, "npy"])
def test_a_file_that_is_no_npz_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "gt.npz"
    if content == "npy":
        np.save(path.open("wb"), np.zeros((3, 4, 2)))
    elif content is not None:
        path.write_bytes(content)
    said = r"gt\.npz: (is not readable as numpy's|its array|lacks|is empty|no such file)"
    with pytest.raises(QueryError, match=said):
        read_tracks_npz(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "gt.npz")
    with pytest.raises(QueryError, match=r"gt\.npz: is a pipe; give a tracks"):
        read_tracks_npz(tmp_path / "gt.npz")


def test_the_number_of_the_first_frame_is_0_unless_the_file_says_another(tmp_path):
    assert read_tracks_file(write_arrays(tmp_path / "a.npz", start_frame=None)).start_frame == 0
    assert read_tracks_file(write_arrays(tmp_path / "b.npz", start_frame=np.array(1001))).start_frame == 1001


def test_numbers_of_any_real_type_are_read(tmp_path):
    tracks = some_tracks().xy.numpy()
    for kind in (np.float64, np.longdouble, ">f4"):
        found = read_tracks_npz(write_arrays(tmp_path / "gt.npz", tracks=tracks.astype(kind)))
        np.testing.assert_array_equal(found[0].xy.numpy(), tracks)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_for_each_point_and_frame_to_a_thousandth_of_a_pixel(tmp_path):
    tracks = some_tracks()
    write_tracks_csv(tmp_path / "tracks.csv", tracks, QUERIES, 25.0)
    rows = rows_of(tmp_path / "tracks.csv")
    assert list(rows[0]) == ["name", "point", "frame", "x", "y", "visible", "confidence", "time"]
    assert [(row["name"], row["point"], row["frame"], row["time"]) for row in rows] == [
        (name, str(point), str(frame), f"{0.04 * frame:.6f}")
        for point, name in enumerate(QUERIES.names)
        for frame in range(4)
    ]
    xy = torch.tensor([[float(row["x"]), float(row["y"])] for row in rows]).reshape(3, 4, 2)
    torch.testing.assert_close(xy, tracks.xy, atol=0.00051, rtol=0)
    assert [row["visible"] == "1" for row in rows] == tracks.visibility.flatten().tolist()
    assert all(len(row["x"].partition(".")[2]) == 3 for row in rows)


def test_csv_counts_frames_as_the_user_does_and_gives_the_time_of_each(tmp_path):
    times = np.array([0, 1 / 30, 0.5, 2.0])
    write_tracks_csv(tmp_path / "t.csv", some_tracks(), QUERIES, 25.0, times=times, start_frame=1001)
    rows = rows_of(tmp_path / "t.csv")[:4]
    assert [row["frame"] for row in rows] == ["1001", "1002", "1003", "1004"]
    assert [row["time"] for row in rows] == ["0.000000", "0.033333", "0.500000", "2.000000"]


def test_no_name_is_a_formula_in_a_spreadsheet_or_stops_the_writing(tmp_path):
    names = ('=HYPERLINK("http://x")', "-nose", "\ud800")  # half of a surrogate pair, from a program
    queries = QueryPoints(QUERIES.frame, QUERIES.xy, names)
    write_tracks_csv(tmp_path / "tracks.csv", some_tracks(), queries, 25.0)
    found = [row["name"] for row in rows_of(tmp_path / "tracks.csv")[::4]]
    assert found == ['\'=HYPERLINK("http://x")', "'-nose", "\\ud800"]
