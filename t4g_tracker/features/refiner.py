"""Track4Gen's refiner: the small network that turns raw diffusion features into matchable ones."""

from __future__ import annotations

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

LAYERS = 8


class Refiner(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Eight 3x3 convolutions of constant width; the grid keeps its size.

    The first seven are Conv-BatchNorm-ReLU, the last is Conv-ReLU, so features are never
    negative. It is a diffusers model: ``save_pretrained`` and ``from_pretrained`` keep it
    as ``refiner/`` beside the other parts of a Stable Video Diffusion folder.

    Args:
        channels: Channels of the UNet block it reads; 640 for ``up_blocks[2]`` of SVD.

    Source: Track4Gen supplement 1.2, arXiv:2412.06016.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, channels: int = 640) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for _ in range(LAYERS - 1):
            blocks += [_convolution(channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*blocks, _convolution(channels), nn.ReLU(inplace=True))

    def forward(self, features: Tensor) -> Tensor:
        """Raw features (T, C, h, w) to refined features (T, C, h, w), each frame by itself."""
        refined: Tensor = self.layers(features)
        return refined


def _convolution(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size=3, stride=1, padding=1)
