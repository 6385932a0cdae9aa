"""The temporal autoencoder of the mini model, a small Stable Video Diffusion.

The UNet works on latents at an eighth of the frame's size. Published weights come with an
autoencoder; the mini model's own is trained here.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from t4g_tracker.training.loop.frozen import FrozenModels
from t4g_tracker.training.track4gen.dataset import ClipBatch

LATENT_CHANNELS = 16  # four times SVD's: a small encoder puts less into each
FIRST_LOG_VARIANCE = -6.0  # little noise at first, so that the decoder can learn from the latents
KL_WEIGHT = 1e-4  # holds latents near unit scale without losing detail


def mini_autoencoder() -> AutoencoderKLTemporalDecoder:
    """Make an untrained autoencoder of SVD's class with about 1.9 million weights, at 1/8 of the frame."""
    vae = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        force_upcast=False,
    )
    nn.init.constant_(vae.quant_conv.bias[LATENT_CHANNELS:], FIRST_LOG_VARIANCE)
    return vae


class EncoderObjective(nn.Module):
    """Trains the encoder together with a small auxiliary decoder, which is discarded afterwards.

    SVD's own decoder, at the mini model's width, normalises each channel alone and therefore learns
    slowly; the encoder would have to wait for it.
    """

    def __init__(self, vae: AutoencoderKLTemporalDecoder) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv
        channels, block = vae.config.latent_channels, 8
        self.read = nn.Sequential(
            nn.Conv2d(channels, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 3 * block**2, 3, padding=1),
            nn.PixelShuffle(block),
        )

    def forward(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Compute the losses of a batch: "loss", and its parts "pixels", "edges" and "kl" unweighted."""
        frames = _pixels(batch)
        moments = self.quant_conv(self.encoder(frames.contiguous(memory_format=torch.channels_last)))
        posterior = DiagonalGaussianDistribution(moments.float())
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        losses = _reconstruction(self.read(posterior.sample()).float(), frames)
        return {**losses, "loss": losses["loss"] + KL_WEIGHT * kl, "kl": kl}


class DecoderObjective(nn.Module):
    """Trains SVD's decoder on the latents of a finished encoder."""

    def __init__(self, vae: AutoencoderKLTemporalDecoder) -> None:
        super().__init__()
        self.decoder = vae.decoder
        self._frozen = FrozenModels(vae)

    def forward(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Compute the losses of a batch: "loss", and its parts "pixels" and "edges" unweighted."""
        frames = _pixels(batch)
        clips, count = batch.frames.shape[:2]
        only_pictures = torch.zeros(clips, count, dtype=torch.bool, device=frames.device)
        decoded = self.decoder(
            self._frozen.encode(frames), image_only_indicator=only_pictures, num_frames=count
        )
        return _reconstruction(decoded.float(), frames)


def _pixels(batch: ClipBatch) -> Tensor:
    return batch.frames.flatten(0, 1).float() / 127.5 - 1


def _reconstruction(decoded: Tensor, frames: Tensor) -> dict[str, Tensor]:
    """Compute the absolute error of pixels and of the differences between neighbours."""
    error = decoded - frames
    pixels = error.abs().mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return {"loss": pixels + 0.5 * edges, "pixels": pixels, "edges": edges}


@torch.no_grad()
def latent_scale(vae: AutoencoderKLTemporalDecoder, frames: Tensor) -> float:
    """Compute the factor that scales the latents of ``frames`` (N, 3, H, W) uint8 to unit deviation."""
    latents = vae.encode(frames.to(vae.device).float() / 127.5 - 1).latent_dist.mode()
    return float(1 / latents.std())
