"""Random generators derived from text, so that no two uses of one seed share random numbers."""

from __future__ import annotations

import hashlib

import torch


def generator_for(words: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the generator of a text such as "train 0 17"; different texts give different generators."""
    digest = hashlib.sha256(words.encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
