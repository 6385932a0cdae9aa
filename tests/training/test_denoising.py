"""Noise levels, answers and losses are those of Stable Video Diffusion."""

from __future__ import annotations

import pytest
import torch

from t4g_tracker.training.track4gen.denoising import denoised, denoising_loss, ideal_output, network_time
from t4g_tracker.training.track4gen.mini import svd_scheduler


def test_denoised_agrees_with_the_published_scheduler():
    scheduler = svd_scheduler()
    scheduler.set_timesteps(sigmas=[2.5, 0.0])
    generator = torch.Generator().manual_seed(0)
    noisy, answer = torch.randn(2, 1, 3, 4, 5, 5, generator=generator)
    expected = scheduler.step(answer, scheduler.timesteps[0], noisy).pred_original_sample
    found = denoised(noisy, answer, torch.tensor([2.5]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert float(network_time(torch.tensor(2.5))) == pytest.approx(float(scheduler.timesteps[0]), abs=1e-4)


def test_an_answer_of_zero_costs_about_one_at_any_noise():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 2, 4, 16, 16, generator=generator)
    sigma = torch.tensor([0.1, 1.0, 30.0])
    noisy = latents + sigma.view(-1, 1, 1, 1, 1) * torch.randn(latents.shape, generator=generator)
    loss = denoising_loss(denoised(noisy, torch.zeros_like(noisy), sigma), latents, sigma)
    torch.testing.assert_close(loss, torch.ones(3), atol=0.1, rtol=0)


def test_the_ideal_output_is_the_one_that_denoises_without_error():
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 2, 4, 4, 4, generator=generator)
    sigma = torch.tensor([0.1, 1.0, 30.0])
    noisy = latents + sigma.view(-1, 1, 1, 1, 1) * noise
    torch.testing.assert_close(denoised(noisy, ideal_output(noisy, latents, sigma), sigma), latents)
