"""Models that a training uses and does not change."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

FRAMES_AT_ONCE = 4  # on a CPU: encoding 16 frames of 192x320 takes 1.5 to 2 times as long as four times 4


class FrozenModels:
    """An autoencoder and an image encoder that are not trained, averaged or checkpointed."""

    def __init__(self, vae: Any, image_encoder: Any = None) -> None:
        self.vae, self.image_encoder = vae, image_encoder

    def __deepcopy__(self, memo: Any) -> FrozenModels:
        """Return the same object: the moving average of the weights shares models that never change."""
        return self

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames (N, 3, H, W) in -1..1 to unscaled latents (N, c, h, w)."""
        self.vae.to(frames.device)
        frames = frames.to(self.vae.dtype).contiguous(memory_format=torch.channels_last)
        at_once = FRAMES_AT_ONCE if frames.device.type == "cpu" else len(frames)
        parts = [self.vae.encode(part).latent_dist.mode() for part in frames.split(at_once)]
        return torch.cat(parts).float()


def weights_digest(*modules: nn.Module) -> str:
    """Digest the weights of modules, to identify the starting point of a training."""
    content = hashlib.blake2b(digest_size=12)
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            content.update(name.encode())
            content.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
