"""Models that a training uses and does not change."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

FRAMES_AT_ONCE = 4  # encoded on a CPU: 16 frames of 192x320 take 1.5 to 2 times as long as four times 4


class FrozenModels:
    """An autoencoder and an image encoder that are not trained, averaged or checkpointed."""

    def __init__(self, vae: Any, image_encoder: Any = None) -> None:
        self.vae, self.image_encoder = vae, image_encoder

    def __deepcopy__(self, memo: Any) -> FrozenModels:
        """The moving average of the weights shares what never moves."""
        return self

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Latents (N, c, h, w) of frames (N, 3, H, W) in -1..1, not scaled."""
        self.vae.to(frames.device)
        frames = frames.to(self.vae.dtype).contiguous(memory_format=torch.channels_last)
        at_once = FRAMES_AT_ONCE if frames.device.type == "cpu" else len(frames)
        return torch.cat([self.vae.encode(some).latent_dist.mode() for some in frames.split(at_once)]).float()


def weights_digest(*modules: nn.Module) -> str:
    """A short digest of the weights of modules, to tell one training's starting point from another's."""
    content = hashlib.blake2b(digest_size=12)
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            content.update(name.encode())
            content.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
