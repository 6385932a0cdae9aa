"""The mini model's own autoencoder."""

from __future__ import annotations

import pytest
import torch
from tiny_datasets import dots

from t4g_tracker.training.track4gen.autoencoder import latent_scale, mini_autoencoder


def test_latents_are_scaled_to_unit_spread():
    vae = mini_autoencoder().eval()
    frames = dots(4, (64, 64)).frames
    scale = latent_scale(vae, frames)
    with torch.no_grad():
        latents = vae.encode(frames.float() / 127.5 - 1).latent_dist.mode()
    assert float((latents * scale).std()) == pytest.approx(1, rel=1e-3)
