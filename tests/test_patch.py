"""Patch features: they belong to what is shown, not to where it is shown."""

import pytest
import torch
from torch.nn.functional import normalize

from t4g_tracker.errors import ConfigError
from t4g_tracker.features.extractor import check_features, extract_features
from t4g_tracker.features.patch import extract_patch
from t4g_tracker.features.settings import FeaturesConfig, PatchConfig
from t4g_tracker.matching.cost_maps import cell_vectors, cost_volume, peak_cells

PATCH = FeaturesConfig(extractor="patch")
CPU = torch.device("cpu")


def test_features_follow_a_texture_that_slides_by_whole_cells(slide):
    clip = slide(3, velocity=(8.0, -8.0))
    values = extract_patch(clip.frames, PatchConfig(), CPU, seed=0).values.float()
    inner = slice(2, -2)  # windows at the border see repeated pixels
    moved = values[1].roll((-1, 1), (1, 2))
    torch.testing.assert_close(moved[:, inner, inner], values[2, :, inner, inner], atol=0.05, rtol=0)


def test_the_best_match_of_a_cell_is_within_a_cell_of_where_it_went(slide):
    clip = slide(2, velocity=(11.0, 5.0))
    grid = extract_patch(clip.frames, PatchConfig(stride_px=4, channels=128), CPU, seed=0)
    first, second = cell_vectors(grid.values.float())
    y, x = (
        part.flatten() for part in torch.meshgrid(torch.arange(3, 11), torch.arange(3, 26), indexing="ij")
    )
    found = peak_cells(cost_volume(first[y, x], second))
    went = torch.stack([x, y], 1) + torch.tensor([11.0, 5.0]) / 4
    assert ((found - went).abs().amax(1) <= 1).float().mean() > 0.95


def test_cells_lie_where_the_grid_says_they_do():
    frames = torch.zeros(1, 3, 64, 128, dtype=torch.uint8)
    frames[0, :, 35, 83] = 255  # one lit pixel: only windows around it see anything
    grid = extract_patch(frames, PatchConfig(), CPU, seed=0)
    y, x = grid.values[0].float().norm(dim=0).nonzero().unbind(1)
    centre_x, centre_y = x * grid.stride_px + grid.offset_px, y * grid.stride_px + grid.offset_px
    assert {tuple(cell) for cell in torch.stack([x, y], 1).tolist()} == {(9, 3), (10, 3), (9, 4), (10, 4)}
    assert (centre_x - 83).abs().max() < 8
    assert (centre_y - 35).abs().max() < 8


def test_a_change_of_brightness_everywhere_changes_nothing(slide):
    frames = slide(1).frames.clamp(0, 200)
    dark, bright = (
        extract_patch(shown, PatchConfig(), CPU, seed=0).values.float() for shown in (frames, frames + 50)
    )
    torch.testing.assert_close(dark, bright, atol=0.02, rtol=0)


def test_cosine_similarity_comes_near_that_of_the_pixels_without_their_mean(slide):
    frames = slide(1).frames
    grid = extract_patch(frames, PatchConfig(channels=1024), CPU, seed=0)
    projected = cell_vectors(grid.values.float())[0, 1:7, 1:15].flatten(0, 1)
    windows = frames[0, :, 4:, 4:].float().unfold(1, 16, 8).unfold(2, 16, 8).permute(1, 2, 0, 3, 4)
    windows = (windows - windows.mean((-1, -2), keepdim=True)).flatten(0, 1).flatten(1)
    pixels = normalize(windows, dim=-1)
    torch.testing.assert_close(projected @ projected.T, pixels @ pixels.T, atol=0.15, rtol=0)


def test_the_same_seed_gives_the_same_features_and_another_does_not(slide):
    frames = slide(2).frames
    first, again, other = (extract_features(frames, PATCH, CPU, seed).values for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert check_features(PATCH) == ""


@pytest.mark.parametrize("settings", [{"window_px": 4}, {"window_px": 15}, {"channels": 0}, {"stride_px": 0}])
def test_windows_that_cannot_be_centred_on_cells_are_refused(settings):
    with pytest.raises(ConfigError, match=r"features\.patch"):
        PatchConfig(**settings)
