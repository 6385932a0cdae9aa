"""Points that cannot be meant are answered with the likely cause; frames count from the number given."""

import json

import numpy as np
import pytest

from t4g_tracker.datatypes import Video
from t4g_tracker.errors import QueryError, TrackerWarning
from t4g_tracker.inputs.queries import grid_queries, read_queries

FRAMES = np.zeros((80, 36, 64, 3), np.uint8)
VIDEO = Video(FRAMES, 24.0, "dog", "dog.mp4")
PLATE = Video(FRAMES, 24.0, "dog", "dog.mp4", start_frame=1001)


def read(tmp_path, rows, video=VIDEO):
    (tmp_path / "q.json").write_text(json.dumps(rows))
    return read_queries(tmp_path / "q.json", video)


def message_of(tmp_path, rows, video=VIDEO):
    with pytest.raises(QueryError) as caught:
        read(tmp_path, rows, video)
    return str(caught.value)


def test_points_that_are_all_fractions_are_refused(tmp_path):
    message = message_of(tmp_path, [[0, 0.5, 0.5], [0, 0.25, 1]])
    assert "every x and y is in 0..1" in message
    assert "multiply x by 64 and y by 36, and subtract 0.5" in message


@pytest.mark.parametrize("rows", [[[0, 0.5, 0.5], [0, 9, 9]], [[0, 0, 0], [0, 1, 1]], [[0, -0.25, 0.5]]])
def test_points_in_the_corner_are_points_where_they_can_be_meant(tmp_path, rows):
    assert read(tmp_path, rows).xy.tolist() == [row[1:] for row in rows]


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([1, 80], "if your first frame is number 1, give --start-frame 1"),
        ([0, 80], "dog.mp4 has 80 frames (0-79); frames count from 0"),
        ([1001, 1080], "if your first frame has another number N, give --start-frame N"),
        ([-1], "is in frame -1"),
    ],
)
def test_frames_that_are_not_there_are_answered_with_how_they_count(tmp_path, frames, said):
    message = message_of(tmp_path, [[frame, 9, 9] for frame in frames])
    assert said in message
    assert ("--start-frame" in message) == (min(frames) > 0)


def plate(first, count=3):
    return Video(FRAMES[:count], 24.0, "plate", "plate", first_file_number=first)


def test_frame_numbers_of_a_plate_are_known_by_its_first_file(tmp_path):
    video = plate(1001)
    for rows in ([[1001, 9, 9]], [[1003, 9, 9], [1002, 8, 8]]):
        assert "the first file has the number 1001, so give --start-frame 1001" in message_of(
            tmp_path, rows, video
        )
    assert "number 1001" not in message_of(tmp_path, [[999, 9, 9]], video)
    assert read(tmp_path, [[2, 9, 9]], video).frame.tolist() == [2]


def test_points_that_may_count_from_the_first_file_are_warned_of(tmp_path, recwarn):
    video = plate(1)
    read(tmp_path, [[0, 9, 9], [2, 9, 9]], video)
    assert not recwarn.list
    with pytest.warns(
        TrackerWarning,
        match=r"q\.json: its frames, 1 to 2, .*plate begin with 1; .*give --start-frame 1",
    ):
        assert read(tmp_path, [[1, 9, 9], [2, 9, 9]], video).frame.tolist() == [1, 2]


def test_positions_outside_are_answered_with_the_likely_cause(tmp_path):
    swapped = [[0, 20, 50], [0, 10, 40]]
    assert message_of(tmp_path, swapped).endswith("(x and y swapped?)")
    of_another_size = [[0, 200, 150], [0, 100, 140]]
    assert "are they of a copy of another size than 64x36?" in message_of(tmp_path, of_another_size)
    one = [[0, 200, 150], [0, 9, 9]]
    assert message_of(tmp_path, one).endswith("x must be 0 to 63 and y 0 to 35, give or take half a pixel")


def test_frames_count_from_the_number_of_the_first(tmp_path):
    assert read(tmp_path, [[1001, 9, 9], [1080, 9, 9]], PLATE).frame.tolist() == [0, 79]
    message = message_of(tmp_path, [[1081, 9, 9]], PLATE)
    assert "is in frame 1081, but dog.mp4 has 80 frames (1001-1080); give points in these" in message
    message = message_of(tmp_path, [[0, 9, 9], [79, 9, 9]], PLATE)
    assert "frames count from 1001 here, add that to the frames of the points" in message
    pre_roll = Video(FRAMES, 24.0, "dog", "dog.mp4", start_frame=-6)
    assert read(tmp_path, [[-6, 9, 9], [0, 9, 9]], pre_roll).frame.tolist() == [0, 6]
    with pytest.raises(
        QueryError, match=r"has 80 frames \(1001-1080\), but the grid is in frame 1101; choose"
    ):
        grid_queries(PLATE, 4, 100)


def tracks_npz(tmp_path, frame, frames=80, size=(36, 64), **more):
    path = tmp_path / "tracks.npz"
    np.savez(path, queries=[[frame, 9, 9]], tracks=np.zeros((1, frames, 2)), size=size, **more)
    return path


def part_of(first, count):
    return Video(FRAMES[:count], 24.0, "dog", "dog.mp4", start_frame=first)


@pytest.mark.parametrize(
    ("start", "frames", "video", "expected"),
    [
        (0, 80, VIDEO, 5),
        (1001, 80, PLATE, 5),
        (1001, 80, part_of(1001, 20), 5),  # --first-frames
        (0, 80, part_of(3, 20), 2),  # --frames of the same video
        (3, 20, VIDEO, 8),  # tracks of a part, and now all
    ],
)
def test_points_of_a_tracks_npz_index_its_own_tracks(tmp_path, recwarn, start, frames, video, expected):
    path = tracks_npz(tmp_path, 5, frames, start_frame=start)
    assert read_queries(path, video).frame.tolist() == [expected]
    assert not recwarn.list
    if start == 0:  # as older files
        assert read_queries(tracks_npz(tmp_path, 5, frames), video).frame.tolist() == [expected]


def test_a_tracks_npz_whose_frames_are_in_doubt_is_told(tmp_path):
    with pytest.warns(
        TrackerWarning,
        match="npz: its frames count from 0 and those of dog.mp4 from 1001; they are taken",
    ):
        assert read_queries(tracks_npz(tmp_path, 5, start_frame=0), PLATE).frame.tolist() == [5]
    with pytest.raises(QueryError, match=r"of 20 frames from 0 on, but dog.mp4 has 80 frames \(1001-1080\)"):
        read_queries(tracks_npz(tmp_path, 5, 20), PLATE)
    with pytest.raises(QueryError, match=r"of a video of 32x18, but dog\.mp4 is 64x36"):
        read_queries(tracks_npz(tmp_path, 5, size=(18, 32)), VIDEO)


def test_points_alone_in_an_npz_count_as_the_user_does(tmp_path):
    np.savez(tmp_path / "q.npz", queries=[[1003, 9, 9]])
    assert read_queries(tmp_path / "q.npz", PLATE).frame.tolist() == [2]
