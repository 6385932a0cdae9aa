"""Pairs are generated once and cropped anew each time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch

from t4g_tracker.training.flow.crops import PairsConfig
from t4g_tracker.training.flow.dataset import PairCrops, collate_pairs

SMALL = PairsConfig(count=2, height=160, width=192, crop_height=128, crop_width=128, relit=0, erased=0)


def test_a_pair_gives_several_crops_which_are_never_repeated():
    crops = PairCrops(replace(SMALL, views=3), seed=0)
    first, again, later = crops[0, 0], crops[0, 0], crops[0, 1]
    assert first.images.shape == (3, 2, 3, 128, 128)
    assert torch.equal(first.images, again.images)
    pairs = [*first.images, *later.images]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(pairs, 2))
    assert collate_pairs([first, later]).flow.shape == (6, 2, 2, 128, 128)


def test_a_cached_pair_is_the_pair_that_was_generated(tmp_path):
    generated = PairCrops(SMALL, seed=3).pair(1)
    crops = PairCrops(SMALL, seed=3, folder=tmp_path)
    crops.pair(1)
    cached = crops.pair(1)
    assert torch.equal(cached.first, generated.first)
    assert torch.equal(cached.backward_valid, generated.backward_valid)
    torch.testing.assert_close(cached.forward, generated.forward, atol=1e-3, rtol=1e-3)
