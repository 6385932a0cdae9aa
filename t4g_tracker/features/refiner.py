"""Track4Gen's refiner: a small network that makes raw diffusion features match points."""

from __future__ import annotations

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

LAYERS = 8


class Refiner(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Eight 3x3 convolutions of constant width, which leave the grid's size unchanged.

    The first seven are Conv-BatchNorm-ReLU, the last is Conv-ReLU, so features are never
    negative. It is a diffusers model: ``save_pretrained`` and ``from_pretrained`` store it
    as ``refiner/`` beside the other parts of a Stable Video Diffusion folder.

    Args:
        channels: Channels of the UNet block whose output it refines; 640 for ``up_blocks[2]`` of SVD.

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
        """Refine raw features (T, C, h, w), each frame alone."""
        refined: Tensor = self.layers(features)
        return refined

    def start_as_identity(self) -> None:
        """Set every convolution to pass its input on: 1 at the kernel's centre, no bias.

        With the statistics of a new batch norm, which divide by sqrt(1 + 1e-5), this gives features that are
        not negative back, and 0 for negative ones. In training a batch norm takes the statistics of its
        batch: then each channel is shifted and scaled, and what lies below its mean is lost.
        """
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.dirac_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _convolution(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size=3, stride=1, padding=1)
