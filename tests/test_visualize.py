"""Pictures: marks are where the points are, and differ if hidden; curves have the values they are of."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image

from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.visualize.colours import point_colours
from t4g_tracker.visualize.curve import curve_figure, plot_curve
from t4g_tracker.visualize.encoding import write_picture
from t4g_tracker.visualize.overlay import paint_overlay
from t4g_tracker.visualize.painting import dimmed

TRAIL, DIM = 12, 0.7


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
    frame = next(paint_overlay(video, standing([(40.0, 30.0)], [True]), queries, TRAIL, DIM))
    colour = point_colours(queries)[0]
    assert (frame[30, 40] == colour).all()
    assert middle_of(coloured(frame, colour)) == pytest.approx((40, 30), abs=0.1)


def test_a_seen_point_is_the_fainter_the_less_confident_and_a_hidden_one_is_not():
    video, places = a_video(), [(40.0, 30.0), (80.0, 30.0), (120.0, 30.0), (60.0, 70.0)]
    tracks = standing(places, [True, True, True, False])
    confidence = torch.tensor([1.0, 0.5, 0.0, 0.0])[:, None].expand(4, 4)
    unsure = dataclasses.replace(tracks, confidence=confidence)
    queries, behind = queries_at(places), dimmed(video.frames[0], DIM).astype(float)
    frame = next(paint_overlay(video, unsure, queries, TRAIL, DIM))
    colours = point_colours(queries).astype(float)
    for (x, y), colour, share in zip(np.int64(places[:3]), colours, (1, 0.625, 0.25), strict=False):
        wanted = share * colour + (1 - share) * behind[y, x]
        assert np.abs(frame[y, x] - wanted).max() <= 1
    sure = next(paint_overlay(video, tracks, queries, TRAIL, DIM))
    assert (frame[55:, 40:80] == sure[55:, 40:80]).all()


def test_a_faint_dot_at_the_edge_is_painted_as_far_as_it_is_inside():
    video, places = a_video(), [(-1.0, -1.0), (160.0, 89.0), (500.0, 30.0)]
    tracks = dataclasses.replace(standing(places, [True] * 3), confidence=torch.full((3, 4), 0.2))
    frame = next(paint_overlay(video, tracks, queries_at(places), 0, DIM)).astype(int)
    changed = np.abs(frame - dimmed(video.frames[0], DIM)).max(-1) > 8
    rows, columns = np.nonzero(changed)
    assert changed[0, 0]
    assert changed[89, 159]
    assert ((columns < 6) & (rows < 6) | (columns > 153) & (rows > 83)).all()


def test_a_dot_between_two_pixels_is_painted_between_them():
    video, queries = a_video(), queries_at([(40.5, 30.25)])
    frame = next(paint_overlay(video, standing([(40.5, 30.25)], [True]), queries, TRAIL, 0.0))
    assert centroid(frame) == pytest.approx((40.5, 30.25), abs=0.1)


def test_a_hidden_point_is_a_ring_around_the_untouched_background():
    video, queries = a_video(), queries_at([(40.0, 30.0)])
    frame = next(paint_overlay(video, standing([(40.0, 30.0)], [False]), queries, TRAIL, DIM))
    assert (frame[30, 40] == dimmed(video.frames[0], DIM)[30, 40]).all()
    ring = coloured(frame, point_colours(queries)[0], 60)
    assert ring.sum() >= 4
    assert middle_of(ring) == pytest.approx((40, 30), abs=0.3)
    assert not ring[30, 40]


def test_nothing_but_the_marks_changes_the_dimmed_frame():
    video, queries = a_video(), queries_at([(40.0, 30.0)])
    frame = next(paint_overlay(video, standing([(40.0, 30.0)], [True]), queries, TRAIL, DIM))
    changed = (frame != dimmed(video.frames[0], DIM)).any(-1)
    rows, columns = np.nonzero(changed)
    assert np.hypot(rows - 30, columns - 40).max() < 8


def test_a_trail_joins_seen_places_and_stops_where_the_point_was_hidden():
    x = [20.0, 45.0, 70.0, 95.0, 120.0, 145.0, 170.0]
    video, queries = a_video(7, (90, 190)), queries_at([(20.0, 45.0)])
    seen = tracks_of([[(place, 45.0) for place in x]], [[True, True, True, False, True, True, True]])
    last = list(paint_overlay(video, seen, queries, TRAIL, DIM))[-1]
    changed = (last != dimmed(video.frames[6], DIM)).any(-1)
    assert changed[45, 33]
    assert changed[45, 133]
    assert not changed[35:55, 76:114].any()


def test_a_jump_to_a_look_alike_is_not_painted_as_motion():
    x = [20.0, 22.0, 24.0, 140.0, 142.0, 144.0]
    video, queries = a_video(6), queries_at([(20.0, 45.0)])
    tracks = tracks_of([[(place, 45.0) for place in x]], [[True] * 6])
    last = list(paint_overlay(video, tracks, queries, TRAIL, DIM))[-1]
    changed = (last != dimmed(video.frames[5], DIM)).any(-1)
    assert changed[45, [21, 23, 141]].all()  # where it was, before and after
    assert not changed[:, 30:130].any()


def test_a_trail_fades_with_age():
    x = [10.0, 40.0, 70.0, 100.0, 130.0]
    video, queries = a_video(5), queries_at([(10.0, 45.0)])
    tracks = tracks_of([[(place, 45.0) for place in x]], [[True] * 5])
    last = list(paint_overlay(video, tracks, queries, 4, 0.0))[-1].astype(int).sum(-1)
    along = [int(last[45, column]) for column in (25, 55, 85, 115)]
    assert along == sorted(along)
    assert 0 < along[0] < 0.5 * along[-1]


def test_a_film_is_the_same_on_any_number_of_threads(ask):
    frames = np.random.default_rng(0).integers(0, 255, (9, 48, 64, 3), dtype=np.uint8)
    video = Video(frames, 24.0, "noise", "noise")
    queries = ask((0, 10, 20), (0, 40, 30))
    steps = torch.randn(2, 9, 2, generator=torch.Generator().manual_seed(0)) * 3
    tracks = Tracks.known(queries.xy[:, None] + steps.cumsum(1), torch.rand(2, 9) > 0.2)
    before, films = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        films.append(np.stack(list(paint_overlay(video, tracks, queries, 4, 0.6))))
    torch.set_num_threads(before)
    assert (films[0] == films[1]).all()
    assert films[0].shape == frames.shape


def test_points_outside_the_frame_or_not_a_number_are_left_out():
    video = a_video()
    xy = [(-500.0, 30.0), (math.nan, math.nan), (1e9, -1e9)]
    queries = queries_at([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)])
    for frame, plain in zip(
        paint_overlay(video, standing(xy, [True, True, False]), queries, TRAIL, DIM),
        video.frames,
        strict=True,
    ):
        assert (frame == dimmed(plain, DIM)).all()


@pytest.mark.parametrize("size", [(2160, 3840), (3840, 2160)])
def test_a_4k_video_is_painted_at_1080p_with_its_points_in_place(size):
    video = a_video(1, size)
    xy = (size[1] * 0.25, size[0] * 0.75)
    queries = queries_at([xy])
    frame = next(paint_overlay(video, standing([xy], [True], 1), queries, TRAIL, 0.0))
    assert frame.shape[:2] == (size[0] // 2, size[1] // 2)
    assert centroid(frame) == pytest.approx(((xy[0] - 0.5) / 2, (xy[1] - 0.5) / 2), abs=0.1)


def test_a_few_points_get_colours_far_apart_and_many_a_smooth_field():
    few = point_colours(queries_at([(float(index), 0.0) for index in range(8)])).astype(int)
    apart = np.abs(few[:, None] - few[None]).sum(-1) + 999 * np.eye(8)
    assert apart.min() > 60
    grid = queries_at([(8.0 * column, 8.0 * row) for row in range(12) for column in range(20)])
    many = point_colours(grid).astype(int).reshape(12, 20, 3)
    assert np.abs(np.diff(many, axis=1)).sum(-1).max() < 90
    assert np.abs(many[:, 0] - many[:, -1]).sum(-1).min() > 150
    assert (point_colours(grid) == point_colours(grid)).all()


HISTORY = [
    {"step": 0, "loss": 3.0, "losses": {"cross_entropy": 2.5, "huber": 0.5}, "held_out_2px": 0.3},
    {"step": 10, "loss": 2.0, "losses": {"cross_entropy": 1.7}, "held_out_2px": None, "delta_avg": 50.0},
    {"step": 20, "loss": float("nan"), "delta_avg": None},
    {"step": 30, "loss": 0.0},
]


@pytest.mark.parametrize("history", [HISTORY, HISTORY[2:], [], [{"step": 0, "loss": 1.0}]])
def test_a_curve_is_plotted_from_rows_that_miss_entries(tmp_path, history):
    plot_curve(tmp_path / "curve.png", history)
    with Image.open(tmp_path / "curve.png") as image:
        image.verify()


def lines_of(axes):
    """The plotted lines by name, each as its (step, value) pairs."""
    return {line.get_label(): [tuple(point) for point in line.get_xydata().tolist()] for line in axes.lines}


def test_the_curve_has_losses_on_a_log_scale_above_measures_in_percent():
    losses, measures = curve_figure(HISTORY).axes
    assert losses.get_yscale() == "log"
    assert lines_of(losses) == {
        "total": [(0, 3.0), (10, 2.0)],
        "cross_entropy": [(0, 2.5), (10, 1.7)],
        "huber": [(0, 0.5)],
    }
    assert lines_of(measures) == {"held-out trajectories within 2 px": [(0, 30.0)], "delta_avg": [(10, 50.0)]}
    assert measures.get_ylim() == (0, 104)


@pytest.mark.parametrize(("held_out", "delta_avg"), [(0.649, 60.0), (0.6, 60.0), (0.3, 90.0)])
def test_the_last_values_are_written_beside_their_lines_and_not_over_each_other(held_out, delta_avg):
    last = {"step": 600, "loss": 1.0, "held_out_2px": held_out, "delta_avg": delta_avg}
    figure = curve_figure([{"step": 0, "loss": 1.0, "held_out_2px": 0.1, "delta_avg": 5.0}, last])
    figure.canvas.draw()
    labels = figure.axes[1].texts
    assert [label.get_text() for label in labels] == [f"{100 * held_out:.1f}", f"{delta_avg:.1f}"]
    one, other = (label.get_window_extent() for label in labels)
    assert not one.overlaps(other)
    assert abs(labels[1].xy[1] - delta_avg) <= 7


@pytest.mark.parametrize("last", [5, 60, 300, 2000])
def test_steps_are_marked_at_round_numbers(last):
    figure = curve_figure([{"step": step, "loss": 1.0} for step in (0, last)])
    first, second, *_ = figure.axes[-1].get_xticks()
    assert f"{second - first:.0e}"[0] in "125"


def test_without_measures_there_is_no_panel_for_them():
    (losses,) = curve_figure([{"step": 0, "loss": 1.0}, {"step": 5, "loss": 0.5}]).axes
    assert lines_of(losses) == {"total": [(0, 1.0), (5, 0.5)]}


def test_a_measure_is_painted_at_its_height_between_0_and_100(tmp_path):
    history = [{"step": step, "loss": 1.0, "held_out_2px": 0.75} for step in (0, 100)]
    plot_curve(tmp_path / "curve.png", history)
    with Image.open(tmp_path / "curve.png") as image:
        picture = np.asarray(image.convert("RGB"))
    figure = curve_figure(history)
    figure.savefig(tmp_path / "again.png")  # lays it out
    x, y = figure.axes[1].transData.transform((50, 75.0))
    line = coloured(picture[:, round(x)], (46, 158, 107))
    assert np.flatnonzero(line).mean() == pytest.approx(len(picture) - y, abs=2)


def test_a_written_picture_is_the_picture(tmp_path):
    picture = a_video(1).frames[0]
    write_picture(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert (np.asarray(image) == picture).all()
    write_picture(tmp_path / "a.jpg", np.zeros((32, 32, 3), np.uint8) + np.array([200, 60, 30], np.uint8))
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.abs(np.asarray(image).astype(int) - [200, 60, 30]).max() < 4
