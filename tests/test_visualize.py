"""Pictures: marks are where the points are, and tell seen from hidden."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import OutputError
from t4g_tracker.video import read_video
from t4g_tracker.visualize.colours import point_colours
from t4g_tracker.visualize.curve import draw_curve
from t4g_tracker.visualize.drawing import PAPER, dimmed
from t4g_tracker.visualize.overlay import draw_overlay, write_picture, write_video
from t4g_tracker.visualize.progress import progress_picture, progress_video

DIM = 0.7


def a_video(frames=4, size=(90, 160)):
    generator = np.random.default_rng(0)
    return Video(generator.integers(90, 160, (frames, *size, 3), dtype=np.uint8), 24.0, "clip", "clip.mp4")


def queries_at(xy):
    count = len(xy)
    return QueryPoints(
        torch.zeros(count, dtype=torch.int64),
        torch.tensor(xy, dtype=torch.float32),
        tuple(f"point-{index}" for index in range(count)),
    )


def tracks_of(xy, visible):
    xy = torch.tensor(xy, dtype=torch.float32)
    return Tracks(xy, torch.tensor(visible), torch.ones(xy.shape[:2]))


def standing(xy, visible, frames=4):
    """Tracks of points that stay where they are; each is always visible or never."""
    return tracks_of([[place] * frames for place in xy], [[seen] * frames for seen in visible])


def coloured(picture, colour, tolerance=40):
    """(H, W) which pixels have about a colour."""
    return np.abs(picture.astype(int) - colour).max(-1) < tolerance


def middle_of(mask):
    rows, columns = np.nonzero(mask)
    return columns.mean(), rows.mean()


def centroid(picture):
    """(x, y) mean position of the light in a picture with one mark on black."""
    weight = picture.astype(float).sum(-1)
    weight[weight < 60] = 0  # the dark rim
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()


def test_a_seen_point_is_a_filled_dot_in_its_place():
    video, queries = a_video(), queries_at([(40.0, 30.0)])
    frame = next(draw_overlay(video, standing([(40.0, 30.0)], [True]), queries, dim=DIM))
    colour = point_colours(queries)[0]
    assert (frame[30, 40] == colour).all()
    assert middle_of(coloured(frame, colour)) == pytest.approx((40, 30), abs=0.1)


def test_a_dot_between_two_pixels_is_drawn_between_them():
    video, queries = a_video(), queries_at([(40.5, 30.25)])
    frame = next(draw_overlay(video, standing([(40.5, 30.25)], [True]), queries, dim=0.0))
    assert centroid(frame) == pytest.approx((40.5, 30.25), abs=0.1)


def test_a_hidden_point_is_a_ring_around_the_untouched_background():
    video, queries = a_video(), queries_at([(40.0, 30.0)])
    frame = next(draw_overlay(video, standing([(40.0, 30.0)], [False]), queries, dim=DIM))
    assert (frame[30, 40] == dimmed(video.frames[0], DIM)[30, 40]).all()
    ring = coloured(frame, point_colours(queries)[0], 60)
    assert ring.sum() >= 4
    assert middle_of(ring) == pytest.approx((40, 30), abs=0.3)
    assert not ring[30, 40]


def test_nothing_but_the_marks_changes_the_dimmed_frame():
    video, queries = a_video(), queries_at([(40.0, 30.0)])
    frame = next(draw_overlay(video, standing([(40.0, 30.0)], [True]), queries, dim=DIM))
    changed = (frame != dimmed(video.frames[0], DIM)).any(-1)
    rows, columns = np.nonzero(changed)
    assert np.hypot(rows - 30, columns - 40).max() < 8


def test_a_trail_joins_seen_places_and_stops_where_the_point_was_hidden():
    x = [20.0, 50.0, 80.0, 110.0, 140.0]
    video, queries = a_video(5), queries_at([(20.0, 45.0)])
    seen = tracks_of([[(place, 45.0) for place in x]], [[True, True, False, True, True]])
    last = list(draw_overlay(video, seen, queries, dim=DIM))[-1]
    changed = (last != dimmed(video.frames[4], DIM)).any(-1)
    assert changed[45, 35]
    assert changed[45, 125]
    assert not changed[35:55, 56:104].any()


def test_a_trail_fades_with_age():
    x = [10.0, 40.0, 70.0, 100.0, 130.0]
    video, queries = a_video(5), queries_at([(10.0, 45.0)])
    tracks = tracks_of([[(place, 45.0) for place in x]], [[True] * 5])
    last = list(draw_overlay(video, tracks, queries, trail_frames=4, dim=0.0))[-1].astype(int).sum(-1)
    along = [int(last[45, column]) for column in (25, 55, 85, 115)]
    assert along == sorted(along)
    assert 0 < along[0] < 0.5 * along[-1]


def test_points_outside_the_frame_or_not_a_number_are_left_out():
    video = a_video()
    xy = [(-500.0, 30.0), (math.nan, math.nan), (1e9, -1e9)]
    queries = queries_at([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)])
    for frame, plain in zip(
        draw_overlay(video, standing(xy, [True, True, False]), queries, dim=DIM), video.frames, strict=True
    ):
        assert (frame == dimmed(plain, DIM)).all()


@pytest.mark.parametrize("size", [(2160, 3840), (3840, 2160)])
def test_a_4k_video_is_drawn_at_1080p_with_its_points_in_place(size):
    video = a_video(1, size)
    xy = (size[1] * 0.25, size[0] * 0.75)
    queries = queries_at([xy])
    frame = next(draw_overlay(video, standing([xy], [True], 1), queries, dim=0.0))
    assert frame.shape[:2] == (size[0] // 2, size[1] // 2)
    assert centroid(frame) == pytest.approx(((xy[0] - 0.5) / 2, (xy[1] - 0.5) / 2), abs=0.1)


def test_an_encoded_overlay_plays_back_in_full_and_in_colour(tmp_path):
    frames = np.zeros((7, 45, 63, 3), np.uint8) + np.array([200, 60, 30], np.uint8)
    write_video(tmp_path / "odd.mp4", frames, 30000 / 1001)
    video = read_video(tmp_path / "odd.mp4")
    assert video.frames.shape == (7, 46, 64, 3)
    assert video.fps == pytest.approx(29.97003, abs=1e-4)
    assert np.abs(video.frames.astype(int) - [200, 60, 30]).max() < 6


@pytest.mark.parametrize("fps", [0.5, 16.0, 23.456789, 240.0])
def test_any_frame_rate_can_be_written(tmp_path, fps):
    write_video(tmp_path / "clip.mp4", np.zeros((4, 32, 32, 3), np.uint8), fps)
    assert read_video(tmp_path / "clip.mp4").fps == pytest.approx(fps, rel=1e-3)


def test_a_video_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "overlay.mp4"
    path.write_bytes(b"old")

    def frames():
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("the drawing failed")

    with pytest.raises(RuntimeError, match="the drawing failed"):
        write_video(path, frames(), 24.0)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"none/overlay\.mp4: cannot be written"):
        write_video(tmp_path / "none" / "overlay.mp4", np.zeros((2, 32, 32, 3), np.uint8), 24.0)
    with pytest.raises(OutputError, match="no frames to write"):
        write_video(tmp_path / "overlay.mp4", [], 24.0)


def test_a_few_points_get_colours_far_apart_and_many_a_smooth_field():
    few = point_colours(queries_at([(float(index), 0.0) for index in range(8)])).astype(int)
    apart = np.abs(few[:, None] - few[None]).sum(-1) + 999 * np.eye(8)
    assert apart.min() > 60
    grid = queries_at([(8.0 * column, 8.0 * row) for row in range(12) for column in range(20)])
    many = point_colours(grid).astype(int).reshape(12, 20, 3)
    assert np.abs(np.diff(many, axis=1)).sum(-1).max() < 90
    assert np.abs(many[:, 0] - many[:, -1]).sum(-1).min() > 150
    assert (point_colours(grid) == point_colours(grid)).all()


def filled(picture):
    """(H, W) which pixels are not the paper between the tiles."""
    return np.abs(picture.astype(int) - PAPER).max(-1) > 30


def tile_count(picture):
    """(rows, columns) of tiles: runs of picture rows, and of columns, that are mostly not paper."""
    lines = [filled(picture).mean(axis) > 0.4 for axis in (1, 0)]
    return tuple(int((np.diff(line.astype(int), prepend=0) == 1).sum()) for line in lines)


def first_tile(picture):
    """Where the first tile begins: (top, left)."""
    return tuple(int((filled(picture).mean(axis) > 0.4).argmax()) for axis in (1, 0))


ROWS = [
    ("frozen features", standing([(30.0, 30.0), (120.0, 60.0)], [True, True])),
    ("step 100", standing([(40.0, 30.0), (110.0, 60.0)], [True, False])),
    ("step 500", standing([(60.0, 30.0), (100.0, 60.0)], [True, True])),
]
TRUTH = standing([(60.0, 30.0), (100.0, 60.0)], [True, False])
TWO = queries_at([(60.0, 30.0), (100.0, 60.0)])


def test_the_progress_picture_has_a_tile_for_each_state_and_frame():
    picture = progress_picture(ROWS, a_video(), TWO, [0, 1, 3, 2])
    assert tile_count(picture) == (3, 4)
    assert picture.shape[1] <= 1600
    assert tile_count(progress_picture(ROWS[:1], a_video(), TWO, [2])) == (1, 1)


def test_a_white_line_leads_from_a_found_point_to_its_true_place():
    video = Video(np.full((4, 90, 160, 3), 120, np.uint8), 24.0, "grey", "grey.mp4")
    without = progress_picture(ROWS[:1], video, TWO, [1])
    lines = progress_picture(ROWS[:1], video, TWO, [1], TRUTH) != without
    top, left = first_tile(without)
    scale = 320 / 160
    row, column = top + round(30 * scale), left + round(45 * scale)
    assert lines[row - 1 : row + 2, column].any()
    assert not lines[top + 100 : top + 180].any()  # the second point is truly hidden: no place to show
    assert lines[top + 180 :].any()  # and below the tiles it says what the line means


def test_captions_and_labels_are_written_beside_the_tiles():
    plain = progress_picture(ROWS, a_video(), TWO, [0])
    named = progress_picture(ROWS, a_video(), TWO, [0], captions=["delta_avg 43.1"] * 3)
    top, left = first_tile(plain)
    bright = (plain[top:, : left - 4].max(-1) > 150).any(1)
    assert int((np.diff(bright.astype(int), prepend=0) == 1).sum()) >= 3
    assert (named != plain)[:, : left - 4].any()
    assert (named == plain)[:, left:].all()


def test_the_progress_video_plays_every_frame_in_one_size_and_fits_a_screen():
    frames = list(progress_video(ROWS, a_video(), TWO, TRUTH, ["43.1", "61.0", "78.9"]))
    assert len(frames) == 4
    assert len({frame.shape for frame in frames}) == 1
    assert frames[0].shape[1] <= 1600
    assert (frames[0] != frames[1]).any()


HISTORY = [
    {"step": 0, "loss": 3.0, "losses": {"cross_entropy": 2.5, "huber": 0.5}, "held_out_2px": 0.3},
    {"step": 10, "loss": 2.0, "losses": {"cross_entropy": 1.7}, "held_out_2px": None, "delta_avg": 50.0},
    {"step": 20, "loss": float("nan"), "delta_avg": None},
    {"step": 30, "loss": 0.0},
]


@pytest.mark.parametrize("history", [HISTORY, HISTORY[2:], [], [{"step": 0, "loss": 1.0}]])
def test_the_curve_is_drawn_from_rows_that_miss_entries(tmp_path, history):
    draw_curve(tmp_path / "curve.png", history)
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size[0] > 800


def test_a_better_run_draws_another_curve(tmp_path):
    draw_curve(tmp_path / "a.png", HISTORY)
    draw_curve(tmp_path / "b.png", [row | {"held_out_2px": 0.9} for row in HISTORY])
    with Image.open(tmp_path / "a.png") as first, Image.open(tmp_path / "b.png") as second:
        assert (np.asarray(first) != np.asarray(second)).any()


def test_a_written_picture_is_the_picture(tmp_path):
    picture = a_video(1).frames[0]
    write_picture(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert (np.asarray(image) == picture).all()
