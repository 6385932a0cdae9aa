"""A folder of results is of one video and one set of points, and says so at any time."""

import json
import re

import pytest

from t4g_tracker.errors import OutputError, TrackerWarning
from t4g_tracker.outputs.result_folder import (
    Kind,
    finish_record,
    open_result_folder,
    write_results,
)
from t4g_tracker.storage.files import safe_name

KIND = Kind("run.json", frozenset({"run.json", "tracks.npz", "overlay.mp4"}))


def facts(video="a/clip.mp4", points="q.json", video_digest=None, points_digest=None):
    return {
        "video": {"source": video, "digest": video_digest or f"pixels of {video}"},
        "points": {"source": points, "digest": points_digest or f"numbers of {points}", "count": 2},
    }


def writer(text):
    return lambda path: path.write_text(text)


def write(folder, about, pictures=("overlay.mp4",)):
    tracks = {"tracks.npz": writer(f"tracks of {about['video']['source']}")}
    painted = {name: writer(f"picture of {about['video']['source']}") for name in pictures}
    files = write_results(folder, KIND, about, tracks, painted, lambda done, total: None)
    finish_record(folder, KIND, files, about)
    return files


def record(folder):
    return json.loads((folder / "run.json").read_text())


def opened(default, about, given=None, inputs=()):
    with open_result_folder(given, default, about, KIND, inputs) as folder:
        return folder


def test_the_same_question_comes_to_the_same_folder(tmp_path):
    default = tmp_path / "clip" / "q"
    assert opened(default, facts()) == default
    write(default, facts())
    assert opened(default, facts()) == default
    moved = facts("moved/clip.mp4", video_digest="pixels of a/clip.mp4")
    assert opened(default, moved) == default


def test_another_video_or_other_points_of_the_same_name_get_a_folder_of_their_own(tmp_path):
    default = tmp_path / "clip" / "q"
    write(opened(default, facts()), facts())
    other_video, other_points = facts(video="b/clip.mp4"), facts(points="other/q.json")
    with pytest.warns(
        TrackerWarning, match=re.escape(f"{default}: holds results of a/clip.mp4 with 2 points")
    ):
        second = opened(default, other_video)
    assert second == tmp_path / "clip" / "q-2"
    write(second, other_video)
    with pytest.warns(TrackerWarning, match="q-3"):
        assert opened(default, other_points) == tmp_path / "clip" / "q-3"
    with pytest.warns(TrackerWarning, match="q-2"):
        assert opened(default, other_video) == second  # asked again, it finds its own
    assert (default / "tracks.npz").read_text() == "tracks of a/clip.mp4"


def test_an_edited_query_file_replaces_its_results_and_a_warning_says_so(tmp_path):
    default = tmp_path / "clip" / "q"
    write(opened(default, facts()), facts())
    with pytest.warns(TrackerWarning, match="which this run replaces; to keep them, stop"):
        assert opened(default, facts(points_digest="edited")) == default


def test_a_given_folder_is_used_with_a_warning_if_results_of_another_video_are_there(tmp_path):
    given = opened(tmp_path / "unused", facts(), given=tmp_path / "mine")
    write(given, facts())
    assert opened(tmp_path / "unused", facts(), given=given) == given
    with pytest.warns(TrackerWarning, match=r"mine: holds results of a/clip\.mp4"):
        assert opened(tmp_path / "unused", facts(video="b/clip.mp4"), given=given) == given


@pytest.mark.parametrize("left", ["", "{", "[1]", '{"video": 3, "points": null}'])
def test_results_whose_record_cannot_be_read_are_anothers(tmp_path, left):
    default = tmp_path / "q"
    default.mkdir()
    (default / "tracks.npz").write_text("of nobody knows what")
    if left:
        (default / "run.json").write_text(left)
    with pytest.warns(TrackerWarning, match="a run that left no record of its video"):
        assert opened(default, facts()) == tmp_path / "q-2"


def test_results_among_the_frames_are_refused(tmp_path):
    (tmp_path / "frames").mkdir()
    with pytest.raises(OutputError, match="results would lie among the files read from it"):
        opened(tmp_path / "x", facts(), tmp_path / "frames" / ".." / "frames", [tmp_path / "frames"])
    assert list((tmp_path / "frames").iterdir()) == []


@pytest.mark.parametrize("link", [False, True])
def test_results_that_would_replace_an_input_are_refused(tmp_path, link):
    (tmp_path / "tracks.npz").write_text("the points to track")
    read = tmp_path / "tracks.npz"
    if link:
        read = tmp_path / "elsewhere.npz"
        read.symlink_to(tmp_path / "tracks.npz")
    with pytest.raises(OutputError, match=rf"{read.name}: would be replaced by the results; choose another"):
        opened(tmp_path / "x", facts(), tmp_path, [read])
    (tmp_path / "notes.txt").write_text("no result")
    assert opened(tmp_path / "x", facts(), tmp_path / "new", [read, tmp_path / "notes.txt"])


def test_what_a_run_does_not_write_is_removed_and_what_the_program_does_not_know_stays(tmp_path):
    write(tmp_path, facts())
    (tmp_path / "notes.txt").write_text("mine")
    assert write(tmp_path, facts(video="b/clip.mp4"), pictures=()) == ["run.json", "tracks.npz"]
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "tracks.npz", "notes.txt"}
    assert record(tmp_path)["files"] == ["run.json", "tracks.npz"]
    assert record(tmp_path)["finished"] is True


def test_until_the_pictures_are_there_the_record_says_that_the_run_is_not_finished(tmp_path):
    write(tmp_path, facts())
    seen = []

    def paint(path):
        seen.append((record(tmp_path)["finished"], record(tmp_path)["video"]["source"]))
        seen.append({entry.name for entry in tmp_path.iterdir()})
        path.write_text("new")

    about = facts(video="b/clip.mp4")
    tracks, pictures = {"tracks.npz": writer("new")}, {"overlay.mp4": paint}
    write_results(tmp_path, KIND, about, tracks, pictures, lambda done, total: None)
    assert seen == [(False, "b/clip.mp4"), {"run.json", "tracks.npz"}]  # nothing of the earlier run is left


def interrupt(path):
    raise KeyboardInterrupt


def test_ctrl_c_among_the_pictures_leaves_the_tracks_and_says_what_is_missing(tmp_path):
    tracks, pictures = {"tracks.npz": writer("new")}, {"overlay.mp4": interrupt}
    with pytest.raises(KeyboardInterrupt) as caught:
        write_results(tmp_path, KIND, facts(), tracks, pictures, lambda done, total: None)
    assert str(caught.value) == f"stopped while writing: {tmp_path} has tracks.npz, but not overlay.mp4"
    assert record(tmp_path)["finished"] is False
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "tracks.npz"}


def test_ctrl_c_among_the_tracks_leaves_the_earlier_results_as_they_were(tmp_path):
    write(tmp_path, facts())
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    about = facts(video="b/clip.mp4")
    with pytest.raises(KeyboardInterrupt) as caught:
        write_results(tmp_path, KIND, about, {"tracks.npz": interrupt}, {}, lambda done, total: None)
    assert str(caught.value) == f"stopped while writing: {tmp_path} has none of the new results"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "name"), [("koi.queries", "koi.queries"), ("a/b:c", "a_b_c"), (" .. ", "results")]
)
def test_names_of_folders_have_no_characters_that_a_folder_may_not_have(text, name):
    assert safe_name(text) == name
