"""Embedded tracks come from the very features that made the last step, and measure themselves."""

from __future__ import annotations

import pytest
import torch
from tiny_models import NUM_FRAMES, WIDTHS, tiny_svd

from t4g_tracker.coordinates import inside
from t4g_tracker.datatypes import Video
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.generation.embed import consistency, embedded_tracks, feature_grid, last_output
from t4g_tracker.generation.noise import picture_noise, starting_noise
from t4g_tracker.generation.pipeline import generate
from t4g_tracker.generation.settings import GenerationConfig
from t4g_tracker.inputs.queries import grid_queries

SHAPE, SIZE, BLOCK = (NUM_FRAMES, 4, 8, 16), (64, 128), 2
PICTURE = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pipeline():
    made = tiny_svd()
    made.set_progress_bar_config(disable=True)
    return made


def generated(pipeline, guidance=3.0, noise=None):
    """A video of three steps, and what the UNet was called with in the last of them."""
    calls = []
    hook = pipeline.unet.register_forward_pre_hook(
        lambda module, inputs, options: calls.append((inputs, options)), with_kwargs=True
    )
    config = GenerationConfig(height=64, width=128, steps=3, min_guidance=1.0, max_guidance=guidance)
    noise = starting_noise(1, SHAPE) if noise is None else noise
    try:
        made = generate(pipeline, PICTURE, NUM_FRAMES, config, picture_noise(1), noise, BLOCK)
    finally:
        hook.remove()
    assert len(calls) == 3
    return made, calls[-1]


@torch.no_grad()
def block_output(pipeline, inputs, options):
    """The block's output in a call of the UNet by itself."""
    outputs = []
    block = pipeline.unet.up_blocks[BLOCK]
    hook = block.register_forward_hook(lambda module, given, output: outputs.append(output))
    pipeline.unet(*inputs, **options)
    hook.remove()
    return outputs[0]


def test_features_are_those_of_the_last_step(pipeline):
    made, (inputs, options) = generated(pipeline, guidance=1.0)
    assert torch.equal(made.features, block_output(pipeline, inputs, options))
    assert made.features.shape == (NUM_FRAMES, WIDTHS[1], 8, 16)


def test_under_guidance_the_half_that_sees_the_picture_counts(pipeline):
    made, ((sample, time), options) = generated(pipeline)
    assert len(sample) == 2
    assert not options["encoder_hidden_states"][0].any()  # without the picture, first
    alone = {name: value[1:] if isinstance(value, torch.Tensor) else value for name, value in options.items()}
    expected = block_output(pipeline, (sample[1:], time), alone)
    torch.testing.assert_close(made.features, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(made.features, block_output(pipeline, (sample[:1], time), alone), atol=1e-2)


def test_one_output_is_kept_the_latest_and_no_hook_stays():
    module = torch.nn.Identity()
    with last_output(module) as kept:
        assert kept == []
        for value in range(3):
            module(torch.tensor(value))
            assert [int(each) for each in kept] == [value]
    module(torch.tensor(7))
    assert int(kept[0]) == 2
    with last_output(module, wanted=False) as none:
        module(torch.tensor(7))
    assert none == []


def test_tracks_of_a_scene_that_stands_still_stand_still(pipeline):
    """Without time in the UNet, equal noise in all frames makes equal features in all frames."""
    still = tiny_svd()
    still.set_progress_bar_config(disable=True)
    for name, weight in still.unet.named_parameters():
        if name.endswith("mix_factor"):
            weight.data.fill_(100.0)  # of space and time, space alone
    noise = starting_noise(1, SHAPE)[:1].expand(SHAPE).contiguous()
    made, _ = generated(still, 1.0, noise)
    video = Video(PICTURE.permute(1, 2, 0).expand(NUM_FRAMES, -1, -1, -1).numpy(), 7.0, "still", "still")
    queries = grid_queries(video, 8)
    found = embedded_tracks(feature_grid(made.features, None, SIZE), video, queries)
    later = found.tracks.xy[:, 1:]
    torch.testing.assert_close(later, later[:, :1].expand_as(later), atol=1e-2, rtol=0)
    moving, _ = generated(pipeline, 1.0)
    there = embedded_tracks(feature_grid(moving.features, None, SIZE), video, queries).tracks.xy[:, 1:]
    assert (there - there[:, :1]).abs().max() > 4


def test_tracks_follow_features_that_move(slide):
    clip = slide(frame_count=5, size=(64, 128), velocity=(4.0, -4.0))
    queries = grid_queries(clip.video, 8)
    found = embedded_tracks(clip.features(), clip.video, queries)
    true, _ = clip.follow(queries)
    within = inside(true - 12, (40, 104))  # matches near the border are pulled inwards
    assert within[:, 1:].sum() > 20
    assert (found.tracks.xy - true).norm(dim=-1)[within].max() < 2.5
    assert found.consistency > 0.7  # some points leave the frame


def test_consistency_is_high_for_a_still_video_and_low_for_noise(slide):
    still = slide(frame_count=4, velocity=(0.0, 0.0))
    queries = grid_queries(still.video, 8)
    assert consistency(still.features(), queries, still.size) > 0.9
    noise = feature_grid(torch.randn(4, 32, 16, 32), None, still.size)
    assert consistency(noise, queries, still.size) < 0.3


def test_a_refiner_is_applied_to_each_frame():
    features, refiner = torch.randn(2, 8, 4, 8), Refiner(channels=8).eval()
    grid = feature_grid(features, refiner, (32, 64))
    with torch.no_grad():
        torch.testing.assert_close(grid.values[1:], refiner(features[1:]))
    assert (grid.stride_px, grid.offset_px) == (8, 3.5)
    assert torch.equal(feature_grid(features, None, (32, 64)).values, features)
