"""What a command's arguments say of points, and of true tracks, is what is read."""

import numpy as np
import pytest
import torch

from t4g_tracker.commands.points import request_queries, request_truth
from t4g_tracker.commands.track import parse_track
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import QueryError
from t4g_tracker.outputs.track_files import write_tracks_npz

FRAMES, SIZE = 12, (36, 64)
VIDEO = Video(np.zeros((FRAMES, *SIZE, 3), np.uint8), 24.0, "dog", "dog.mp4")
QUERIES = QueryPoints(torch.tensor([6, 7]), torch.tensor([[10.0, 9.0], [20.0, 9.0]]), ("nose", "tail"))


def request(*arguments):
    return parse_track(["--video", "dog.mp4", *arguments])


def part(first, count, number=None):
    start = first if number is None else number
    return Video(VIDEO.frames[first : first + count], 24.0, "dog", "dog.mp4", start_frame=start)


def truth_file(path, queries=QUERIES, frames=FRAMES, shift=0.0):
    """Tracks that stay at their query points, moved along x by ``shift``."""
    xy = queries.xy[:, None].repeat(1, frames, 1) + torch.tensor([shift, 0.0])
    tracks = Tracks.known(xy, torch.ones(len(queries), frames, dtype=torch.bool))
    write_tracks_npz(path, tracks, queries, SIZE, 24.0)
    return path


def test_the_frame_of_a_grid_counts_from_the_number_of_the_first():
    assert set(request_queries(request("--grid", "4"), VIDEO).frame.tolist()) == {0}
    for start in ("1001", "-6"):
        given = request("--grid", "4", "--start-frame", start)
        video = part(0, FRAMES, number=int(start))
        assert set(request_queries(given, video).frame.tolist()) == {0}
        given = request("--grid", "4", "--start-frame", start, "--grid-frame", str(int(start) + 3))
        assert set(request_queries(given, video).frame.tolist()) == {3}
        with pytest.raises(QueryError, match="but the grid is in frame 3; choose one"):
            request_queries(
                request("--grid", "4", "--start-frame", start, "--grid-frame", "3"), part(5, 4, 1001)
            )


@pytest.mark.parametrize("text", ["1_0", "1.5", "\u0661", "", "9999999999"])
def test_a_frame_number_is_whole(text, capsys):
    for option in ("--start-frame", "--grid-frame"):
        with pytest.raises(SystemExit):
            request("--grid", "4", option, text)
        assert "must be a whole number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "first", "count", "number"),
    [
        ((), 0, FRAMES, 0),
        (("--first-frames", "8"), 0, 8, 0),
        (("--frames", "5-9"), 5, 5, 5),
        (("--start-frame", "1001"), 0, FRAMES, 1001),
        (("--start-frame", "1001", "--frames", "1006-1010"), 5, 5, 1006),
    ],
)
def test_true_tracks_are_cut_to_the_frames_that_are_read(tmp_path, arguments, first, count, number):
    path = truth_file(tmp_path / "gt.npz")
    given = request("--grid", "4", "--gt", str(path), *arguments)
    queries = QueryPoints(QUERIES.frame - first, QUERIES.xy, QUERIES.names)
    truth = request_truth(given, part(first, count, number), queries)
    assert truth.xy.shape[1] == count
    moved = QueryPoints(queries.frame - 1, queries.xy, queries.names)
    with pytest.raises(QueryError, match="not the ones to track"):
        request_truth(given, part(first, count, number), moved)


def test_true_tracks_of_a_part_say_which_part_by_the_number_of_their_first_frame(tmp_path):
    of_part = QueryPoints(QUERIES.frame - 2, QUERIES.xy, QUERIES.names)
    arrays = dict(np.load(truth_file(tmp_path / "gt.npz", of_part, frames=10)))  # frames 2 to 11
    arrays["tracks"][..., 1] += np.arange(10) / 10
    np.savez(tmp_path / "gt.npz", **(arrays | {"start_frame": np.array(2)}))
    given = request("--grid", "4", "--gt", str(tmp_path / "gt.npz"), "--frames", "5-9")
    queries = QueryPoints(QUERIES.frame - 5, QUERIES.xy, QUERIES.names)
    truth = request_truth(given, part(5, 5), queries)
    np.testing.assert_array_equal(truth.xy.numpy(), arrays["tracks"][:, 3:8])


def test_true_tracks_that_cannot_be_are_warned_of(tmp_path, recwarn):
    given = request("--grid", "4", "--gt", str(truth_file(tmp_path / "gt.npz", shift=1.0)))
    request_truth(given, VIDEO, QUERIES)
    assert not recwarn.list
    given = request("--grid", "4", "--gt", str(truth_file(tmp_path / "gt.npz", shift=50.0)))
    request_truth(given, VIDEO, QUERIES)
    apart, outside = (str(warning.message) for warning in recwarn.list)
    assert "the true track of nose is 50 px from its query point in frame 6" in apart
    assert f"{FRAMES} positions are outside the frame but visible" in outside
