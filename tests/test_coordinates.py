"""Changes of grid: every way there has a way back, and whole numbers are pixel centres."""

import math
import time

import pytest
import torch

from t4g_tracker.coordinates import (
    WorkingSizeConfig,
    cells_to_pixels,
    centred_offset,
    fractions_to_pixels,
    inside,
    pixels_to_cells,
    pixels_to_fractions,
    rescale,
    resize_frames,
    to_sample_grid,
    working_size,
)
from t4g_tracker.errors import ConfigError

POINTS = torch.tensor([[0.0, 0.0], [-0.5, 12.25], [853.5, 479.5], [100.3, 7.9]])


def assert_same(found, wanted, atol=1e-3):
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), atol=atol, rtol=0)


@pytest.mark.parametrize("stride_px", [4, 8, 14])
def test_a_pixel_to_its_cell_and_back_is_the_same_pixel(stride_px):
    offset_px = centred_offset(stride_px)
    assert_same(cells_to_pixels(pixels_to_cells(POINTS, stride_px, offset_px), stride_px, offset_px), POINTS)


def test_cell_0_is_centred_between_the_pixels_that_it_covers():
    covered = torch.arange(8).float()
    assert centred_offset(8) == covered.mean()
    assert_same(pixels_to_cells(torch.tensor([[3.5, 11.5]]), 8, centred_offset(8)), [[0.0, 1.0]])


def test_fractions_and_pixels_are_each_others_inverse():
    size = (480, 854)
    assert_same(fractions_to_pixels(pixels_to_fractions(POINTS, size), size), POINTS)


def test_tapvid_puts_the_centre_of_a_pixel_half_a_pixel_from_its_edge():
    assert_same(fractions_to_pixels(torch.tensor([[0.5 / 10, 3.5 / 4]]), (4, 10)), [[0.0, 3.0]])
    assert_same(pixels_to_fractions(torch.tensor([[-0.5, 3.5]]), (4, 10)), [[0.0, 1.0]])


def test_rescaling_there_and_back_is_the_same_point():
    small, large = (320, 576), (480, 854)
    assert_same(rescale(rescale(POINTS, large, small), small, large), POINTS)


def test_rescaling_keeps_the_outer_edges_of_the_frame_in_place():
    edges = torch.tensor([[-0.5, -0.5], [853.5, 479.5]])
    assert_same(rescale(edges, (480, 854), (320, 576)), [[-0.5, -0.5], [575.5, 319.5]])


def test_a_picture_and_a_position_in_it_are_resized_alike():
    x = torch.arange(48).float().expand(1, 3, 32, 48)  # every pixel holds its own x
    shrunk = resize_frames(x, (16, 24))
    back = rescale(torch.tensor([[10.0, 8.0]]), (16, 24), (32, 48))
    assert shrunk[0, 0, 8, 10] == pytest.approx(back[0, 0].item(), abs=1e-3)


def test_the_sampling_grid_reads_a_pixel_at_its_centre():
    picture = torch.arange(15.0).view(1, 1, 3, 5)
    grid = to_sample_grid(torch.tensor([[4.0, 1.0], [1.5, 2.0]]), (3, 5))
    read = torch.nn.functional.grid_sample(picture, grid[None, None], align_corners=False)
    assert_same(read.flatten(), [9.0, 11.5])


def test_inside_reaches_half_a_pixel_beyond_the_outermost_centres():
    xy = torch.tensor([[-0.5, 0.0], [-0.51, 0.0], [9.5, 3.5], [9.51, 3.0], [3.0, 3.51]])
    assert inside(xy, (4, 10)).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("original", "wanted"),
    [
        ((480, 854), (320, 576)),
        ((1080, 1920), (320, 576)),
        ((854, 480), (576, 320)),
        ((240, 240), (448, 448)),
    ],
)
def test_the_working_size_comes_near_the_aspect_at_the_usual_pixel_count(original, wanted):
    assert working_size(original, WorkingSizeConfig()) == wanted


@pytest.mark.parametrize("original", [(64, 64), (33, 1000), (1000, 33), (768, 1024), (2160, 4096)])
def test_any_video_gets_whole_multiples_and_no_more_than_twice_the_pixels(original):
    height, width = working_size(original, WorkingSizeConfig())
    assert height % 64 == width % 64 == 0
    assert 64 * 64 <= height * width <= 2 * 320 * 576
    assert (height > width) == (original[0] > original[1])


def test_a_fixed_working_size_is_taken_as_it_is():
    assert working_size((480, 854), WorkingSizeConfig(height=128, width=64)) == (128, 64)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"height": 64}, "go together"),
        ({"height": 100, "width": 128}, "working_size.height must be 0 or a multiple of 64, got 100"),
        ({"multiple": 12}, "working_size.multiple must be 8, 16, 24"),
        ({"pixels": 100}, "working_size.pixels must be at least"),
    ],
)
def test_a_working_size_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        WorkingSizeConfig(**settings)


def best_of_all(original, config):
    """The size that the docstring of ``working_size`` describes, found by trying all."""
    sides = range(config.multiple, config.pixels // config.multiple + 1, config.multiple)
    sizes = [(h, w) for h in sides for w in sides if h * w <= 2 * config.pixels]

    def misfit(size):
        aspect = math.log(size[1] / size[0] * original[0] / original[1])
        return abs(aspect) + 0.5 * abs(math.log(size[0] * size[1] / config.pixels))

    return min(sizes, key=misfit)


@pytest.mark.parametrize("original", [(480, 854), (854, 480), (77, 1001), (3, 2000), (2000, 3), (1, 1)])
@pytest.mark.parametrize(("pixels", "multiple"), [(320 * 576, 64), (50_000, 8), (70_000, 32), (4096, 64)])
def test_no_size_fits_better_than_the_chosen_one(original, pixels, multiple):
    config = WorkingSizeConfig(pixels=pixels, multiple=multiple)
    assert working_size(original, config) == best_of_all(original, config)


@pytest.mark.parametrize("original", [(480, 854), (16_384, 1)])
def test_the_largest_working_size_is_chosen_at_once(original):
    begin = time.monotonic()
    working_size(original, WorkingSizeConfig(pixels=4096 * 4096, multiple=8))
    assert time.monotonic() - begin < 2
