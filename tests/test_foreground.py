"""Foreground from features: the object is found whichever way the component points, and trained on."""

import pytest
import torch
from torch.nn.functional import normalize

from t4g_tracker import pipeline
from t4g_tracker.config import read_settings
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.features.foreground import foreground_masks
from t4g_tracker.fitted import fit
from t4g_tracker.pipeline import Config

SIZE = (96, 160)


def overlap(found, true):
    return ((found & true).sum() / (found | true).sum()).item()


@pytest.fixture(scope="module")
def scene():
    """A disc that moves before a background, each of a look of its own, and where the disc is in pixels."""
    random = torch.Generator().manual_seed(0)
    disc, behind = normalize(torch.randn(2, 24, generator=random), dim=1)
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    true = torch.stack([(x - 50 - 8 * t) ** 2 + (y - 45) ** 2 < 28**2 for t in range(4)])
    cells = true[:, 4::8, 4::8, None]
    values = torch.where(cells, disc, behind) + 0.06 * torch.randn(4, 12, 20, 24, generator=random)
    return FeatureGrid(values.permute(0, 3, 1, 2).half(), 8, 3.5, SIZE), true


def test_an_object_that_looks_unlike_what_is_around_it_is_found(scene):
    features, true = scene
    assert overlap(foreground_masks(features), true) > 0.8


def test_neither_the_sign_of_the_features_nor_their_length_matters(scene):
    features, _ = scene
    found = foreground_masks(features)
    length = torch.rand(4, 1, 12, 20, generator=torch.Generator().manual_seed(1)) * 5 + 0.1
    for factor in (-1, length):
        other = FeatureGrid(features.values.float() * factor, 8, 3.5, SIZE)
        assert overlap(foreground_masks(other), found) > 0.99


def test_an_object_on_most_of_the_frame_is_still_the_one_off_the_border(scene):
    features, _ = scene
    values = features.values[:, :, :1, :1].expand(features.values.shape).clone()
    values[:, :, 1:-1, 1:-1] *= -1
    masks = foreground_masks(FeatureGrid(values, 8, 3.5, SIZE))
    assert masks[:, 8:-8, 8:-8].all()
    assert masks.sum() == 4 * 80 * 144


def test_where_all_is_alike_nothing_is_foreground():
    assert not foreground_masks(FeatureGrid(torch.ones(2, 3, 4, 5), 8, 3.5, (32, 40))).any()


@pytest.mark.parametrize("given", [False, True])
def test_masks_that_are_given_go_before_those_from_features(monkeypatch, slide, tiny_settings, given):
    clip, seen = slide(4), []
    adapt = pipeline.adapt

    def watched(*args, foreground, **kwargs):
        seen.append(foreground)
        return adapt(*args, foreground=foreground, **kwargs)

    monkeypatch.setattr(pipeline, "adapt", watched)
    settings = [*tiny_settings, "adaptation.steps=1", "adaptation.foreground=auto"]
    masks = torch.zeros(4, 64, 128, dtype=torch.bool)
    masks[:, 20:40, 30:60] = True
    fitted = fit(
        clip.video, read_settings(Config(), None, settings), masks=masks if given else None, cache=False
    )
    found = foreground_masks(fitted.stages.features.value)
    assert torch.equal(seen[0], masks if given else found)
