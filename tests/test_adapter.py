"""Adapters: untrained they change nothing, trained they are read off on a grid that tiles the frame."""

import pytest
import torch
from torch.nn.functional import normalize

from adaptation.adapter import (
    DeltaCnnAdapter,
    LiteAdapter,
    apply_adapter,
    blur_halve,
    build_adapter,
    check_working_size,
    normalise_frames,
)
from adaptation.loop import adapt
from adaptation.prepare import align, mean_feature, prepare_cells, prepare_features, principal_directions
from adaptation.settings import AdaptationConfig
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.errors import ConfigError
from t4g_tracker.matching.settings import MatchingConfig

CPU = torch.device("cpu")
KINDS = ["lite", "delta-cnn"]


@pytest.fixture(scope="module")
def clip(slide):
    return slide(3)


def frozen_grid(clip, stride_px=8, channels=24):
    """Features that have nothing to do with the frames."""
    height, width = (side // stride_px for side in clip.size)
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(clip.frame_count, channels, height, width, generator=generator)
    return FeatureGrid(values.half(), stride_px, (stride_px - 1) / 2, clip.size)


def stirred(adapter):
    """The adapter with every weight that starts at zero moved away from it."""
    with torch.no_grad():
        for parameter in adapter.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    return adapter


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride_px", [4, 8, 16])
def test_an_untrained_adapter_changes_nothing_exactly(clip, kind, stride_px):
    grid = frozen_grid(clip, stride_px)
    adapter = build_adapter(kind, 24, 32, seed=0)
    frozen = prepare_cells(grid.values).float()
    for mode in (True, False):
        with torch.no_grad():
            adapted = adapter.train(mode)(normalise_frames(clip.frames), frozen)
        assert torch.equal(adapted, align(frozen, adapted.shape[-2:]))


@pytest.mark.parametrize("kind", KINDS)
def test_over_a_whole_video_an_untrained_adapter_gives_the_frozen_features(clip, kind):
    grid = frozen_grid(clip)
    adapter = build_adapter(kind, 24, 32, seed=0)
    adapted = apply_adapter(adapter, prepare_features(grid, True), clip.frames, CPU, batch=2)
    side = 64 // adapter.stride_px
    wanted = align(prepare_cells(grid.values, mean_feature(grid.values)).float(), (side, 2 * side))
    assert torch.equal(adapted.values, normalize(wanted, dim=1).half())
    assert (adapted.stride_px, adapted.offset_px) == (adapter.stride_px, (adapter.stride_px - 1) / 2)
    assert adapter.training  # as it was before


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_adapter_depends_on_the_frame_but_not_on_the_others_of_its_batch(clip, kind):
    grid = prepare_features(frozen_grid(clip), True)
    adapter = stirred(build_adapter(kind, 24, 32, seed=0))
    together = apply_adapter(adapter, grid, clip.frames, CPU, batch=3).values
    alone = apply_adapter(adapter, grid, clip.frames, CPU, batch=1).values
    torch.testing.assert_close(together, alone, atol=2e-3, rtol=0)
    other = apply_adapter(adapter, grid, 255 - clip.frames, CPU).values
    assert (other - together).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_alone_decides_the_first_weights(kind):
    state = torch.get_rng_state()
    first, again, other = (build_adapter(kind, 8, 32, seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's draws are left alone


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns_once_the_last_layer_has_left_zero(clip, kind):
    adapter = stirred(build_adapter(kind, 24, 32, seed=0))
    frozen = prepare_cells(frozen_grid(clip).values).float()
    adapter(normalise_frames(clip.frames), frozen).square().sum().backward()
    assert all(parameter.grad is not None for parameter in adapter.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in adapter.parameters())
    weights = [parameter for name, parameter in adapter.named_parameters() if name.endswith("weight")]
    assert all(weight.grad.any() for weight in weights)


def test_the_published_adapter_has_the_published_shape():
    adapter = DeltaCnnAdapter(640)
    said = [(c.in_channels, c.out_channels, c.kernel_size, c.dilation) for c in adapter.convs]
    assert said == [
        (3, 64, (5, 5), (1, 1)),
        (64, 128, (5, 5), (1, 1)),
        (128, 256, (5, 5), (1, 1)),
        (256, 640, (5, 5), (2, 2)),
    ]
    adapted = adapter(torch.zeros(1, 3, 64, 128), torch.zeros(1, 640, 8, 16))
    assert adapted.shape == (1, 640, 8, 16)  # three halvings


def test_the_published_adapter_s_residual_is_normalised_to_a_twentieth():
    adapter = build_adapter("delta-cnn", 8, 32, seed=0)
    with torch.no_grad():
        adapter.convs[3].weight.normal_(generator=torch.Generator().manual_seed(0))
        frames = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1))
        residual = adapter(frames, torch.zeros(2, 8, 8, 16))
    torch.testing.assert_close(
        residual.std((0, 2, 3), correction=0), torch.full((8,), 0.05), rtol=1e-3, atol=0
    )


def test_the_published_adapter_sees_no_border_where_the_frame_is_plain():
    """With zeros around the frame, the cells at its border would differ from the others."""
    adapter = stirred(build_adapter("delta-cnn", 24, 32, seed=0)).eval()
    with torch.no_grad():
        adapted = adapter(torch.full((1, 3, 64, 128), 0.7), torch.zeros(1, 24, 8, 16))
    assert adapted.abs().max() > 0.01
    torch.testing.assert_close(adapted, adapted[..., :1, :1].expand_as(adapted), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "size", "fits"),
    [("delta-cnn", (40, 64), True), ("delta-cnn", (64, 32), False), ("lite", (8, 8), True)],
)
def test_frames_too_small_to_reflect_are_refused(kind, size, fits):
    if not fits:
        with pytest.raises(ConfigError, match="more than 32 px a side, got 32x64"):
            check_working_size(kind, size)
        return
    check_working_size(kind, size)
    build_adapter(kind, 4, 16, 0)(torch.zeros(1, 3, *size), torch.zeros(1, 4, size[0] // 8, size[1] // 8))


def test_the_default_adapter_s_residual_lies_at_stride_4():
    adapted = LiteAdapter(16, 32)(torch.zeros(1, 3, 64, 128), torch.zeros(1, 16, 8, 16))
    assert adapted.shape == (1, 16, 64 / LiteAdapter.stride_px, 128 / LiteAdapter.stride_px)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_in_the_frame_changes_the_features_around_it(clip, kind):
    adapter = stirred(build_adapter(kind, 24, 32, seed=0)).eval()
    frozen = torch.zeros(1, 24, 8, 16)
    plain = torch.zeros(1, 3, 64, 128)
    dotted = plain.clone()
    dotted[..., 31:33, 95:97] = 1.0
    with torch.no_grad():
        change = (adapter(dotted, frozen) - adapter(plain, frozen)).abs().sum(1)[0]
    weight, offset_px = change / change.sum(), (adapter.stride_px - 1) / 2
    x = (weight.sum(0) @ torch.arange(float(change.shape[1]))) * adapter.stride_px + offset_px
    y = (weight.sum(1) @ torch.arange(float(change.shape[0]))) * adapter.stride_px + offset_px
    assert abs(x - 95.5) < 8
    assert abs(y - 31.5) < 8


def test_halving_keeps_constants():
    halved = blur_halve(torch.full((2, 3, 8, 12), 7.0))
    torch.testing.assert_close(halved, torch.full((2, 3, 4, 6), 7.0))


def test_halving_turns_a_ramp_into_the_same_ramp_on_the_coarser_grid():
    x = torch.arange(12.0).expand(1, 1, 8, 12)
    centres = 0.5 + 2 * torch.arange(6.0)  # of the coarser cells, in finer ones
    torch.testing.assert_close(blur_halve(x)[0, 0, 2, 1:-1], centres[1:-1])
    torch.testing.assert_close(blur_halve(x.mT)[0, 0, 1:-1, 2], centres[1:-1])


def test_halving_removes_a_checkerboard_that_plain_skipping_would_alias():
    board = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float()[None, None]
    torch.testing.assert_close(blur_halve(board)[..., 1:-1, 1:-1], torch.full((1, 1, 6, 6), 0.5))


def test_aligning_to_a_finer_grid_keeps_every_cell_in_place():
    ramp = (8 * torch.arange(16.0) + 3.5).expand(1, 1, 8, 16)  # each cell holds its x in pixels
    fine = align(ramp, (16, 32))[0, 0, 5]
    torch.testing.assert_close(fine[1:-1], (4 * torch.arange(32.0) + 1.5)[1:-1])


def test_unit_length_scales_cells_and_leaves_empty_ones_empty():
    values = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0)) * 1000
    values[0, :, 1, 1] = 0
    norm = prepare_cells(values).float().norm(dim=1)
    assert norm[0, 1, 1] == 0
    torch.testing.assert_close(norm[1], torch.ones(3, 3), atol=2e-3, rtol=0)


def test_features_stay_as_they_are_if_so_asked():
    values = torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(0)) * 5
    prepared = prepare_features(FeatureGrid(values, 8, 3.5, (32, 48)), centre=False, unit_length=False)
    assert torch.equal(prepared.values, values.half())
    assert not prepared.unit_length


@pytest.fixture
def flat_features():
    """Features of 16 channels that lie in 5 of their directions around a mean, one cell of them empty."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5])[:, None]
    values = torch.randn(3, 4, 6, 5, generator=generator) @ (spread * torch.randn(5, 16, generator=generator))
    values = (values + 10).permute(0, 3, 1, 2).contiguous()
    values[1, :, 2, 2] = 0
    return FeatureGrid(values, 8, 3.5, (32, 48))


def likeness(prepared):
    cells = prepared.values.float().movedim(1, 3).flatten(0, 2)
    return cells @ cells.T


def test_components_that_features_do_not_have_can_go_without_a_change(flat_features):
    whole, kept = (prepare_features(flat_features, True, components=count) for count in (0, 6))
    assert (whole.channels, kept.channels, kept.components) == (16, 6, 6)
    torch.testing.assert_close(likeness(kept), likeness(whole), atol=3e-3, rtol=0)
    assert not kept.values[1, :, 2, 2].any()
    fewer = prepare_features(flat_features, True, components=2)
    assert (likeness(fewer) - likeness(whole)).abs().max() > 0.05


def test_principal_directions_are_the_same_for_features_turned_about(flat_features):
    values = flat_features.values
    directions = principal_directions(values, None, 5)
    torch.testing.assert_close(directions.T @ directions, torch.eye(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(principal_directions(-values, None, 5), directions, atol=1e-5, rtol=0)
    cells = (values / values.norm(dim=1, keepdim=True).clamp_min(1e-6)).movedim(1, 3).flatten(0, 2)
    shares = (cells @ directions).square().sum(0)
    assert (shares[:-1] > shares[1:]).all()


def test_an_adapter_is_not_given_features_of_other_components(flat_features):
    frames = torch.zeros(3, 3, 32, 48, dtype=torch.uint8)
    config = AdaptationConfig(steps=0, width=16)
    prepared = [prepare_features(flat_features, True, components=count) for count in (6, 16)]
    fitted = adapt(prepared[0], frames, None, config, MatchingConfig(), seed=0, device=CPU)
    assert fitted.apply(prepared[0], frames).shape[1] == 6
    with pytest.raises(ValueError, match="components=6; these have 16 channels"):
        fitted.apply(prepared[1], frames)


def test_what_all_cells_share_is_taken_off():
    """Features that differ little beside what they share are as far apart as without it."""
    own = torch.randn(3, 8, 4, 5, generator=torch.Generator().manual_seed(0))
    own = own - own.mean(dim=(0, 2, 3), keepdim=True)
    shared = torch.full((1, 8, 1, 1), 20.0)
    plain, mean = own + shared, mean_feature(own + shared)
    torch.testing.assert_close(mean, shared[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(prepare_cells(plain, mean), prepare_cells(own), atol=2e-3, rtol=0)
    apart = prepare_cells(plain).float().flatten(2).permute(0, 2, 1)
    assert (apart @ apart.mT).min() > 0.9  # while as they are, all look alike


def test_frames_are_normalised_to_minus_one_to_one():
    assert normalise_frames(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
