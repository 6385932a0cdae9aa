"""A video depends on picture, seed and settings; all models start from the same noise."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import NUM_FRAMES, tiny_svd

from t4g_tracker.errors import ConfigError
from t4g_tracker.generation.decoding import own_decoder
from t4g_tracker.generation.noise import picture_noise, starting_noise
from t4g_tracker.generation.pipeline import generate
from t4g_tracker.generation.settings import GenerationConfig

SHAPE = (NUM_FRAMES, 4, 8, 8)
CONFIG = GenerationConfig(height=64, width=64, steps=2)
PICTURE = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pipeline():
    made = tiny_svd()
    made.set_progress_bar_config(disable=True)
    return made


def made(pipeline, seed=1, config=CONFIG, **options):
    noise = starting_noise(seed, SHAPE)
    return generate(pipeline, PICTURE, NUM_FRAMES, config, picture_noise(seed), noise, **options)


def calls_of(pipeline, config=CONFIG, seed=1):
    """What the UNet is called with, step by step."""
    calls = []

    def note(module, inputs, options):
        calls.append({"sample": inputs[0], "timestep": inputs[1], **options})

    hook = pipeline.unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        made(pipeline, seed, config)
    finally:
        hook.remove()
    return calls


def test_the_same_seed_gives_the_same_video_and_another_seed_another(pipeline):
    first, again, other = made(pipeline), made(pipeline), made(pipeline, seed=2)
    assert torch.equal(first.latents, again.latents)
    assert (first.latents - other.latents).std() > 0.1
    assert first.latents.shape == SHAPE
    assert first.last_sigma == pytest.approx(0.002)


def test_every_model_starts_from_the_very_noise_of_the_seed(pipeline):
    other = tiny_svd(seed=5)
    other.set_progress_bar_config(disable=True)
    mine, theirs = (calls_of(each)[0]["sample"][0, :, :4] for each in (pipeline, other))
    assert torch.equal(mine, theirs)
    sigma = 700.0  # of the schedule's beginning; the UNet's input has unit variance
    started = starting_noise(1, SHAPE) * pipeline.scheduler.init_noise_sigma / math.sqrt(sigma**2 + 1)
    torch.testing.assert_close(mine, started, rtol=1e-3, atol=1e-4)


def test_noise_on_the_picture_shares_no_numbers_with_the_starting_noise():
    drawn = torch.randn(SHAPE, generator=picture_noise(1)).flatten()
    together = torch.corrcoef(torch.stack([drawn, starting_noise(1, SHAPE).flatten()]))
    assert together[0, 1].abs() < 0.15
    assert torch.equal(starting_noise(1, SHAPE), starting_noise(1, SHAPE))


def test_guidance_doubles_the_batch_and_no_guidance_does_not(pipeline):
    unguided = GenerationConfig(height=64, width=64, steps=2, max_guidance=1.0)
    assert [len(call["sample"]) for call in calls_of(pipeline)] == [2, 2]
    assert [len(call["sample"]) for call in calls_of(pipeline, unguided)] == [1, 1]


def test_the_model_is_told_rate_motion_and_noise(pipeline):
    config = GenerationConfig(
        height=64, width=64, steps=1, max_guidance=1.0, fps=9, motion_bucket_id=40, noise_aug_strength=0.5
    )
    (call,) = calls_of(pipeline, config)
    torch.testing.assert_close(call["added_time_ids"], torch.tensor([[8.0, 40.0, 0.5]]))  # fps - 1


def test_progress_goes_from_none_to_all_steps(pipeline):
    told = []
    made(pipeline, progress=lambda *numbers: told.append(numbers))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_chunks_are_decoded_each_by_itself(pipeline):
    latents = made(pipeline).latents
    decode, halves = own_decoder(pipeline.vae), own_decoder(pipeline.vae, 2)
    with torch.no_grad():
        assert torch.equal(own_decoder(pipeline.vae, NUM_FRAMES)(latents), decode(latents))
        assert torch.equal(halves(latents), torch.cat([decode(latents[:2]), decode(latents[2:])]))
        assert decode(latents).shape == (NUM_FRAMES, 3, 64, 64)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height": 100}, "two multiples of 64, got 100 576"),
        ({"frames": 1}, "at least 2, or 0"),
        ({"min_guidance": 3.0, "max_guidance": 2.0}, "at most the second"),
        ({"steps": 0}, "steps must be from 1 to 1000"),
    ],
)
def test_settings_that_make_no_video_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        GenerationConfig(**wrong)
