"""Feeding refined features back into the UNet, so that what makes points match also helps to generate.

Source: the training scheme of Track4Gen, arXiv:2412.06016, as described by others; its authors' code is not
published.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Feedback(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A 1x1 convolution of refined features, whose output is added to a UNet block's own; zero at first.

    It is a diffusers model: ``save_pretrained`` and ``from_pretrained`` store it as ``feedback/`` beside
    ``refiner/``.

    Args:
        channels: Channels of the UNet block; 640 for ``up_blocks[2]`` of SVD.
        block: Index of that up-block.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, channels: int = 640, block: int = 2) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, kernel_size=1)
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, refined: Tensor) -> Tensor:
        """Compute what is added, (T, C, h, w), of refined features; no gradient reaches these."""
        added: Tensor = self.convolution(refined.detach())
        return added


def add_after(unet: Any, block: int, addition: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Add something to the output of an up-block, for the blocks that follow it.

    It is added where the following module takes its input, so hooks on the block itself still see the
    features that Track4Gen refines and matches.

    Args:
        unet: A UNet of diffusers.
        block: Index of the up-block.
        addition: Takes the block's output (T, C, h, w), returns what is added to it.

    Returns:
        A handle whose ``remove`` undoes it.
    """
    last = block == len(unet.up_blocks) - 1
    following: nn.Module = unet.conv_norm_out if last else unet.up_blocks[block + 1]

    def add(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if given:
            return (given[0] + addition(given[0]), *given[1:]), named
        raw = named["hidden_states"]
        return given, {**named, "hidden_states": raw + addition(raw)}

    return following.register_forward_pre_hook(add, with_kwargs=True)
