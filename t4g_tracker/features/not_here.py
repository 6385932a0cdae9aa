"""One more class for matching a point to the cells of a frame: that the frame does not show it."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

FIRST_SIMILARITY = 0.5  # of the class before training


class NotHere(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A learned number that competes with the similarities of a point to all cells of a frame.

    It is in units of cosine similarity and divided by the softmax's temperature, as those are; so it
    moves as fast as they do. It is a diffusers model, stored as ``not_here/`` beside ``refiner/``.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self) -> None:
        super().__init__()
        self.similarity = nn.Parameter(torch.tensor([FIRST_SIMILARITY]))
