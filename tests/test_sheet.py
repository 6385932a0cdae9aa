"""The same points found in several ways: a row for each in the picture, a tile for each in the film."""

import numpy as np
import pytest
import torch

from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.results import Result
from t4g_tracker.visualize.colours import point_colours
from t4g_tracker.visualize.painting import PAPER, dimmed
from t4g_tracker.visualize.sheet import LABEL_PX, sheet_picture, sheet_video, shown_frames

DIM = 0.7
CLIP = Video(np.full((6, 90, 160, 3), 128, np.uint8), 24.0, "grey", "grey.mp4")
SCALE = 2  # of its tiles: no wider than twice the video
POINTS = QueryPoints(torch.tensor([0, 3]), torch.tensor([[40.0, 30.0], [120.0, 60.0]]), ("a", "b"))
HERE = ((40.0, 30.0), (120.0, 60.0))


def standing(*xy, seen=(True, True), frames=6):
    """Tracks of points that stay where they are; each is always visible or never."""
    places = torch.tensor(xy)[:, None].expand(-1, frames, -1)
    return Tracks.known(places, torch.tensor(seen)[:, None].expand(-1, frames))


def named(*tracks, measures=None):
    return [Result(f"row-{index}", found, measures or {}) for index, found in enumerate(tracks)]


def bands(picture, axis):
    """(start, end) of each run of rows (axis 0) or columns (axis 1) that tiles fill, edges first."""
    filled = (np.abs(picture.astype(int) - PAPER).max(-1) > 25).mean(1 - axis) > 0.3
    edges = np.flatnonzero(np.diff(np.r_[0, filled.astype(int), 0]))
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_picture_has_the_query_points_and_a_tile_for_each_result_and_frame(count):
    picture = sheet_picture(named(*[standing(*HERE)] * count), CLIP, POINTS, [1, 2, 4], None, DIM)
    rows = bands(picture, 0)
    assert len(rows) == 1 + count
    assert [len(bands(picture[slice(*row), LABEL_PX:], 1)) for row in rows] == [2, *[3] * count]
    assert picture.shape[1] <= 2400


def test_query_points_are_each_painted_in_their_own_frame_alone():
    picture = sheet_picture(named(standing(*HERE)), CLIP, POINTS, [1, 2], None, DIM)
    top = picture[slice(*bands(picture, 0)[0])]
    first, second = (top[:, slice(*band)].astype(int) for band in bands(top, 1)[:2])
    for tile, own, other in ((first, 0, 1), (second, 1, 0)):
        near = [np.abs(tile - colour).max(-1) < 10 for colour in point_colours(POINTS)[[own, other]]]
        assert near[0].any()
        assert not near[1].any()


def test_rows_of_results_that_disagree_differ_and_of_those_that_agree_do_not():
    here, there = standing(*HERE), standing((80.0, 30.0), HERE[1])
    picture = sheet_picture(named(here, there, here), CLIP, POINTS, [1, 2], None, DIM)
    rows = [picture[slice(*band), LABEL_PX:] for band in bands(picture, 0)[1:]]
    assert (rows[0] != rows[1]).any()
    assert (rows[0] == rows[2]).all()


def test_the_video_behind_is_as_bright_as_asked():
    for dim in (0.5, 0.9):
        picture = sheet_picture(named(standing(*HERE)), CLIP, POINTS, [1], None, dim)
        (top, _), (left, _) = bands(picture, 0)[1], bands(picture[:, LABEL_PX:], 1)[0]
        assert (picture[top, LABEL_PX + left] == dimmed(CLIP.frames[0], dim)[0, 0]).all()


def test_a_white_line_leads_from_a_found_point_to_its_true_place_in_frames_that_see_it():
    found, truth = (
        standing((30.0, 30.0), (120.0, 60.0)),
        standing((60.0, 30.0), (100.0, 60.0), seen=(True, False)),
    )
    without = sheet_picture(named(found), CLIP, POINTS, [1], None, DIM)
    changed = (sheet_picture(named(found), CLIP, POINTS, [1], truth, DIM) != without).any(-1)
    (query_top, query_end), (top, end) = bands(without, 0)
    row, column = top + round(30 * SCALE), LABEL_PX + round(45 * SCALE)  # half way
    assert changed[row - 1 : row + 2, column].any()
    assert not changed[top + 50 * SCALE : end].any()  # the second point is hidden: no place to show
    assert changed[end:].any()  # the legend says what the line means
    assert not changed[query_top:query_end].any()


def ink(picture, row):
    """The brightest letters beside a row of tiles, line by line."""
    beside = picture[slice(*bands(picture, 0)[row]), : LABEL_PX - 4].max((1, 2)).astype(int)
    lines = np.flatnonzero(np.diff(np.r_[0, (beside > 100).astype(int), 0]))
    return [int(beside[start:end].max()) for start, end in zip(lines[::2], lines[1::2], strict=True)]


def test_the_best_of_each_measure_stands_out():
    measures = ({"AJ": 40.0, "OA": 70.0}, {"AJ": 50.0, "OA": 60.0})
    results = [Result("name", standing(*HERE), values) for values in measures]
    picture = sheet_picture(results, CLIP, POINTS, [1], None, DIM)
    first, second = ink(picture, 1), ink(picture, 2)  # the name, AJ, OA
    assert first[0] == second[0]
    assert first[1] < first[2] == second[1] > second[2]
    alone = ink(sheet_picture(results[:1], CLIP, POINTS, [1], None, DIM), 1)
    assert alone[1] == alone[2] == first[1]  # nothing to choose from


def test_a_frame_that_all_points_are_queried_in_shows_nothing_and_is_left_out():
    together = QueryPoints(torch.tensor([0, 0]), POINTS.xy, POINTS.names)
    assert shown_frames(CLIP, together, 3) == [1, 3, 5]
    assert shown_frames(CLIP, POINTS, 3) == [0, 2, 5]
    assert shown_frames(CLIP, POINTS, 20) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("size", [(90, 160), (160, 91), (1080, 1920), (1920, 1080)])
def test_the_film_fits_a_screen(count, size):
    video = Video(np.full((1, *size, 3), 128, np.uint8), 24.0, "grey", "grey.mp4")
    points = QueryPoints(torch.tensor([0]), torch.tensor([[4.0, 4.0]]), ("a",))
    results = named(*[standing((4.0, 4.0), seen=(True,), frames=1)] * count, measures={"AJ": 50.0})
    frame = next(sheet_video(results, video, points, None, DIM))
    height, width = frame.shape[:2]
    assert width <= 1600
    assert height <= 1090
    across, down = (sum(end - start > 40 for start, end in bands(frame, axis)) for axis in (1, 0))
    assert across * (down - 1) < count <= across * down
    assert across >= down


def test_the_film_plays_every_frame_in_one_size_with_trails_if_they_are_wanted():
    moving = Tracks.known(
        torch.tensor(HERE)[:, None] + 4 * torch.arange(6.0)[:, None], torch.ones(2, 6).bool()
    )
    plain, trailed = (list(sheet_video(named(moving), CLIP, POINTS, None, DIM, trail)) for trail in (0, 4))
    assert len(plain) == len(trailed) == 6
    assert len({frame.shape for frame in plain}) == 1
    assert (plain[0] == trailed[0]).all()
    (top, _), (left, _) = bands(plain[5], 0)[0], bands(plain[5], 1)[0]
    changed = (plain[5] != trailed[5]).any(-1)
    x, y = left + round((HERE[0][0] + 8) * SCALE), top + round((HERE[0][1] + 8) * SCALE)  # in frame 2
    assert changed[y, x]


def test_a_video_of_wide_pixels_is_shown_as_a_player_does_with_its_points_in_place():
    wide = Video(CLIP.frames, 24.0, "grey", "grey.mp4", pixel_aspect=2.0)
    frame = next(sheet_video(named(standing(*HERE)), wide, POINTS, None, DIM))
    (top, bottom), (left, right) = bands(frame, 0)[0], bands(frame, 1)[0]
    assert (right - left) / (bottom - top) == pytest.approx(2 * 160 / 90, rel=0.01)
    near = np.abs(frame.astype(int) - point_colours(POINTS)[0]).max(-1) < 10
    rows, columns = np.nonzero(near[top:bottom, left:right])
    share = ((columns.mean() + 0.5) / (right - left), (rows.mean() + 0.5) / (bottom - top))
    assert share == pytest.approx((40.5 / 160, 30.5 / 90), abs=0.005)


def test_frames_are_numbered_as_the_user_counts():
    plate = Video(CLIP.frames, 24.0, "grey", "grey.mp4", start_frame=1001)
    pictures = [
        sheet_picture(named(standing(*HERE)), video, POINTS, frames, None, DIM)
        for video, frames in ((CLIP, [1]), (plate, [1]), (Video(CLIP.frames, 24.0, "g", "g"), [1]))
    ]
    above = [picture[: bands(picture, 0)[0][0]] for picture in pictures]
    assert (above[0] != above[1]).any()
    assert (above[0] == above[2]).all()
