"""Photographs come with a free licence, and scikit-image."""

from __future__ import annotations

import sys

import pytest
import torch
from tiny_scenes import CPU

from t4g_tracker.errors import TrackerError
from t4g_tracker.synthetic import photographs
from t4g_tracker.synthetic.clips import generate_clip
from t4g_tracker.synthetic.surfaces import PATTERNS_ONLY


def test_every_photograph_is_free_and_in_colour():
    assert len(photographs.NAMES) == 12
    for name in photographs.NAMES:
        licence = photographs.LICENCES[name]
        assert licence.startswith(("CC0", "public domain", "no known copyright")), name
        assert photographs.photograph(name, CPU).shape[0] == 3


def test_without_scikit_image_the_error_names_the_remedy_and_patterns_still_work(monkeypatch):
    photographs.photograph.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(TrackerError, match=r"pip install -e '\.\[train\]'"):
        photographs.photo_texture(torch.Generator().manual_seed(0), (8, 8))
    clip = generate_clip(torch.Generator().manual_seed(0), 2, (32, 32), 4, PATTERNS_ONLY)
    assert clip.frames.shape == (2, 3, 32, 32)
