"""The door for arrays: taken as they are meant, or refused with the line that settles it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from t4g_tracker.arrays import as_masks, as_queries, as_video
from t4g_tracker.datatypes import QueryPoints
from t4g_tracker.errors import QueryError, VideoError

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(FRAMES).permute(0, 3, 1, 2)
VIDEO = as_video(FRAMES)


@pytest.mark.parametrize(
    "given",
    [
        FRAMES,
        FRAMES.tolist(),
        FRAMES.astype(np.float64),
        FRAMES.astype(np.int64),
        TENSOR,
        TENSOR[None],
        TENSOR[None].float(),  # as CoTracker's demo holds it
        torch.from_numpy(FRAMES),
    ],
    ids=["uint8", "lists", "float", "int", "tensor", "batch of one", "float tensor", "channels last"],
)
def test_every_way_to_hold_the_same_frames_gives_the_same_video(given):
    video = as_video(given)
    assert video.frames.dtype == np.uint8
    assert np.array_equal(video.frames, FRAMES)
    assert (video.frame_count, video.size) == (4, (20, 30))


def test_a_caller_may_write_to_its_frames_again():
    mine = FRAMES.copy()
    video = as_video(mine)
    mine[:] = 0
    assert np.array_equal(video.frames, FRAMES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (FRAMES.transpose(0, 3, 1, 2), r"\(4, 3, 20, 30\); these look channels-first: give frames.transpose"),
        (FRAMES[..., :1].repeat(4, 3), "alpha channel: give frames"),
        (FRAMES[..., 0], "these look grey: give np.repeat"),
        (FRAMES[None], "one video at a time"),
        (TENSOR[None].repeat(2, 1, 1, 1, 1), "holds 2 videos"),
        (TENSOR[:, :2], r"a tensor must be \(T, 3, H, W\)"),
        ((FRAMES / 255).astype(np.float32), r"got float32 in 0\.\.1; if 1 is white, give \(frames \* 255\)"),
        (TENSOR.float() / 127.5 - 1, r"got float32 in -1\.\.1; bring it to 0\.\.255"),
        (FRAMES.astype(np.uint16) * 257, r"got uint16 in 0\.\.65535"),
        (np.where(FRAMES == 3, np.nan, FRAMES), "not finite"),
        (FRAMES > 100, "must be uint8, got bool"),
        (FRAMES[:1], "has 1 frame; tracking needs at least 2"),
        (FRAMES[:, :8], "frames of 30x8 are too small"),
    ],
)  # fmt: skip
def test_frames_of_another_kind_are_refused_and_the_remedy_is_named(given, said):
    with pytest.raises(VideoError, match=said) as caught:
        as_video(given)
    assert str(caught.value).startswith("frames: ")
    assert "\n" not in str(caught.value)


def test_points_are_frame_x_y_or_lie_in_frame_0():
    rows = [[3, 10.5, 2], [0, 29.4, 19]]
    for given in (rows, np.array(rows), torch.tensor(rows), torch.tensor(rows)[None]):
        found = as_queries(given, VIDEO)
        assert found.frame.tolist() == [3, 0]
        torch.testing.assert_close(found.xy, torch.tensor([[10.5, 2.0], [29.4, 19.0]]))
    assert found.names == ("point-0", "point-1")
    assert as_queries([[10.5, 2]], VIDEO).frame.tolist() == [0]
    assert as_queries(found, VIDEO) is found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([[0, 0.5, 0.5], [0, 0.25, 1]], "if they are fractions, multiply x by 30 and y by 20"),
        (
            [[4, 1, 1]],
            r"query point 0 is in frame 4, but frames has 4 frames \(0-3\); frames count from 0 in",
        ),
        ([[0, 5, 5], [0, 30, 5]], "query point 1 is at x = 30, y = 5, outside frames"),
        ([[0.5, 5, 5]], "frame must be a whole number, got 0.5"),
        ([[0, float("nan"), 5]], "not finite"),
        ([[0, 1, 2, 3]], r"must be \(N, 3\) frame, x, y or \(N, 2\)"),
        ([], r"must be \(N, 3\)"),
        ([["a", "b"]], "must hold numbers, got <U1"),
        ("q.json", r"points: 'q.json' is a path; read it by read_queries"),
        (Path("points/q.csv"), r"points: 'points/q.csv' is a path; read it by read_queries"),
        ([[1, 2], [1, 2, 3]], "cannot be read as an array"),
    ],
)
def test_points_that_cannot_be_meant_are_refused(given, said):
    with pytest.raises(QueryError, match=said):
        as_queries(given, VIDEO)


def test_query_points_outside_the_video_are_refused_too():
    points = QueryPoints(torch.tensor([9]), torch.tensor([[1.0, 2.0]]), ("nose",))
    with pytest.raises(QueryError, match="is in frame 9"):
        as_queries(points, VIDEO)


def test_frames_of_arrays_count_from_0_whatever_those_of_files_do():
    plate = replace(VIDEO, start_frame=1001)
    assert as_queries([[3, 10.5, 2]], plate).frame.tolist() == [3]
    with pytest.raises(QueryError, match=r"has 4 frames \(0-3\); frames count from 0 in arrays"):
        as_queries([[1001, 10.5, 2]], plate)
    assert as_queries(as_queries([[3, 10.5, 2]], VIDEO), plate).frame.tolist() == [3]


def test_a_point_in_the_corner_pixel_is_a_point():
    assert as_queries([[0, 0, 0], [0, 1, 1]], VIDEO).xy.tolist() == [[0, 0], [1, 1]]


def test_masks_come_to_the_working_size():
    mask = np.zeros((4, 20, 30), dtype=bool)
    mask[1, :10, 15:] = True
    found = as_masks(mask, VIDEO, (40, 60))
    assert found.sum(dim=(1, 2)).tolist() == [0, 20 * 30, 0, 0]
    assert found[1, :20, 30:].all()
    assert torch.equal(as_masks(torch.from_numpy(mask).int() * 255, VIDEO, (40, 60)), found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.ones((3, 20, 30)), r"must be \(4, 20, 30\), one for each frame, got \(3, 20, 30\)"),
        (np.zeros((4, 20, 30)), "nothing inside"),
    ],
)
def test_masks_that_do_not_go_with_the_video_are_refused(given, said):
    with pytest.raises(QueryError, match=said):
        as_masks(given, VIDEO, (40, 60))


class Foreign:
    """An array of another library that does not like to be converted."""

    def __array__(self, *_, **__):
        raise RuntimeError("on another device")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Foreign(), "on another device"),
        ([[1, 2], [3]], "cannot be read as an array"),
        (np.array([[0, 10**400, 1]], dtype=object), "must hold numbers, got object"),
        (np.array([[0, 1j, 1]]), "must hold numbers, got complex128"),
        (np.ma.masked_array([[0, 3, 4]], mask=[[0, 1, 0]]), "masked values"),
        (torch.ones(1, 3).to_sparse(), "cannot be read as an array"),
        (torch.ones(1, 3, device="meta"), "cannot be read as an array"),
    ],
    ids=["foreign", "ragged", "object", "complex", "masked", "sparse", "meta"],
)
def test_whatever_is_no_array_of_numbers_is_one_named_line(given, said):
    for take, error in (
        (lambda: as_queries(given, VIDEO), QueryError),
        (lambda: as_masks(given, VIDEO, (40, 60)), QueryError),
        (lambda: as_video(given), VideoError),
    ):
        with pytest.raises(error, match=said) as caught:
            take()
        assert "\n" not in str(caught.value)


def test_arrays_lie_in_memory_as_they_like(recwarn):
    rows = np.array([[3, 10.5, 2], [0, 29.0, 19]])
    mask = np.zeros((4, 20, 30), dtype=">i2")
    mask[1, :10] = 1
    mask.setflags(write=False)
    for points in (rows[::-1][::-1], rows.astype(">f8"), torch.tensor(rows, dtype=torch.bfloat16)):
        assert as_queries(points, VIDEO).frame.tolist() == [3, 0]
    for masks in (mask, mask[:, ::-1][:, ::-1], torch.tensor(mask.astype(float), requires_grad=True)):
        assert as_masks(masks, VIDEO, (20, 30))[1, :10].all()
    assert np.array_equal(as_video(FRAMES[:, ::-1]).frames, FRAMES[:, ::-1])
    assert np.array_equal(as_video(TENSOR.bfloat16()).frames, TENSOR.bfloat16().float().permute(0, 2, 3, 1))
    assert not recwarn
