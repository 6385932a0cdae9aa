"""Two extractors matched together: similarities are averaged by their weights, on one grid."""

from __future__ import annotations

import pytest
import torch
from tiny_published import save_tiny_dino, save_tiny_dinov2

from t4g_tracker.coordinates import centred_offset
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.extractor import check_features, extract_features
from t4g_tracker.features.fused import fuse
from t4g_tracker.features.settings import DinoConfig, Dinov2Config, FeaturesConfig, FusedConfig
from t4g_tracker.features.tiles import tiled
from t4g_tracker.matching.cost_maps import cell_vectors, cost_volume

CPU = torch.device("cpu")
SIZE = (64, 96)


def grid(seed, stride_px=8, channels=6):
    values = torch.randn(
        2, channels, *(side // stride_px for side in SIZE), generator=torch.manual_seed(seed)
    )
    return FeatureGrid((values + 1).half(), stride_px, centred_offset(stride_px), SIZE)


def cost_maps(features):
    """Of every cell of the first frame in the second one."""
    vectors = cell_vectors(features.values.float())
    return cost_volume(vectors[0].flatten(0, 1), vectors[1])


def test_similarity_is_the_mean_of_the_parts_by_their_weights():
    first, second = grid(0), grid(1, channels=4)
    fused = fuse([first, second], (3.0, 1.0), centre=False)
    assert fused.shape == (2, 10, 8, 12)
    expected = (3 * cost_maps(first) + cost_maps(second)) / 4
    torch.testing.assert_close(cost_maps(fused), expected, atol=3e-3, rtol=0)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 2.0)])
def test_a_part_of_weight_0_does_not_count(weights):
    parts = [grid(0), grid(1)]
    fused = fuse(parts, weights, centre=False)
    torch.testing.assert_close(cost_maps(fused), cost_maps(parts[weights.index(0) - 1]), atol=3e-3, rtol=0)


def test_centring_takes_off_what_all_cells_of_a_part_have_in_common():
    first, second = grid(0), grid(1)
    shifted = FeatureGrid(first.values + 5, 8, 3.5, SIZE)
    plain = cost_maps(fuse([first, second], (1, 1), centre=True))
    torch.testing.assert_close(
        cost_maps(fuse([shifted, second], (1, 1), centre=True)), plain, atol=1e-2, rtol=0
    )
    assert (cost_maps(fuse([shifted, second], (1, 1), centre=False)) - plain).abs().max() > 0.3


def test_the_finer_grid_is_taken_and_the_other_interpolated_at_its_cells():
    coarse, fine = grid(0, 16), grid(1, 4)
    fused = fuse([coarse, fine], (1, 0), centre=False)
    assert (fused.stride_px, fused.offset_px, fused.shape[2:]) == (4, 1.5, (16, 24))
    assert torch.equal(fused.values, fuse([tiled(coarse, 4), fine], (1, 0), centre=False).values)


def ramp(stride_px, offset_px, shape):
    """Features that are the x and y of their cells, in working pixels."""
    x, y = (offset_px + stride_px * torch.arange(count) for count in (shape[1], shape[0]))
    values = torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]
    return FeatureGrid(values.float(), stride_px, offset_px, SIZE)


@pytest.mark.parametrize("source", [(8, 6.5, (7, 11)), (4, 3.5, (15, 23)), (16, 7.5, (4, 6))])
def test_tiles_hold_what_lies_at_their_centres(source):
    stride = source[0] if source[0] < 16 else 8
    tiles = tiled(ramp(*source), stride)
    wanted = ramp(stride, centred_offset(stride), (SIZE[0] // stride, SIZE[1] // stride))
    assert (tiles.stride_px, tiles.offset_px, tiles.shape) == (stride, wanted.offset_px, wanted.shape)
    low, high = ramp(*source).values.amin((2, 3)), ramp(*source).values.amax((2, 3))
    expected = wanted.values.clamp(low[..., None, None], high[..., None, None])  # the border goes on
    torch.testing.assert_close(tiles.values, expected)


def test_what_tiles_the_frame_is_left_alone():
    features = grid(0)
    assert tiled(features) is features


def test_fused_is_offered_as_an_extractor(tmp_path):
    frames = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=torch.manual_seed(3))
    config = FeaturesConfig(
        extractor="fused",
        fused=FusedConfig(first="dino", second="dinov2", first_weight=0.5),
        dino=DinoConfig(model=str(save_tiny_dino(tmp_path / "dino")), half=False),
        dinov2=Dinov2Config(model=str(save_tiny_dinov2(tmp_path / "v2")), half=False, patch_stride=7),
    )
    assert check_features(config).count("model.safetensors") == 2
    told = []
    found = extract_features(frames, config, CPU, 0, lambda *numbers: told.append(numbers))
    parts = [
        extract_features(
            frames, FeaturesConfig(extractor=name, dino=config.dino, dinov2=config.dinov2), CPU, 0
        )
        for name in ("dino", "dinov2")
    ]
    assert torch.equal(found.values, fuse(parts, (0.5, 1.0), centre=True).values)
    assert (found.stride_px, found.offset_px, found.shape) == (8, 3.5, (2, 64, 8, 12))
    assert told == [(0, 2), (1, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"first": "svd", "second": "track4gen"}, "second must read other settings than svd"),
        ({"second_weight": -1.0}, "second_weight must"),
        ({"first_weight": 0.0, "second_weight": 0.0}, "must be above 0"),
    ],
)
def test_parts_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        FusedConfig(**wrong)
