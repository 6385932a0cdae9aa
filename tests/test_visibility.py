"""Visibility: a point is seen where its match looks alike and its error is small."""

import pytest
import torch

from t4g_tracker.errors import ConfigError
from t4g_tracker.tracking.visibility import VisibilityConfig, judge

CONFIG = VisibilityConfig(cycle_threshold_px=8.0, similarity_threshold=0.5)


def judged(similarity, cycle_error_px):
    seen, confidence = judge(torch.tensor([[similarity]]), torch.tensor([[cycle_error_px]]), CONFIG)
    return seen.item(), confidence.item()


@pytest.mark.parametrize(
    ("similarity", "cycle_error_px", "wanted"),
    [(0.9, 1.0, True), (0.5, 8.0, True), (0.49, 1.0, False), (0.9, 8.1, False), (-0.9, 90.0, False)],
)
def test_a_point_is_seen_where_it_looks_alike_and_its_cycle_error_is_small(
    similarity, cycle_error_px, wanted
):
    assert judged(similarity, cycle_error_px)[0] is wanted


def test_a_perfect_match_that_leads_straight_back_is_certain():
    assert judged(1.0, 0.0)[1] == pytest.approx(1.0)


def test_each_threshold_halves_the_confidence():
    assert judged(0.5, 0.0)[1] == pytest.approx(0.5)
    assert judged(1.0, 8.0)[1] == pytest.approx(0.5)
    assert judged(0.5, 8.0)[1] == pytest.approx(0.25)


def test_confidence_is_a_share_and_at_least_a_quarter_wherever_seen():
    similarity, cycle_error_px = torch.meshgrid(
        torch.linspace(-1, 1, 81), torch.linspace(0, 200, 401), indexing="ij"
    )
    seen, confidence = judge(similarity, cycle_error_px, CONFIG)
    assert confidence.min() >= 0
    assert confidence.max() <= 1
    assert confidence[seen].min() >= 0.25


def test_confidence_falls_as_the_match_gets_worse():
    similarity, cycle_error_px = torch.linspace(1, 0.05, 20), torch.linspace(0, 30, 20)
    _, confidence = judge(similarity[None], cycle_error_px[None], CONFIG)
    assert (confidence.diff() < 0).all()


def test_each_point_can_have_a_limit_of_its_own():
    error_px = torch.tensor([[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]])
    seen, confidence = judge(torch.ones(2, 3), error_px, CONFIG, limit_px=torch.tensor([1.0, 0.0]))
    assert seen.tolist() == [[True, True, False], [True, False, False]]
    assert confidence[0].tolist() == pytest.approx([1, 0.5, 0.1])
    assert confidence[1].tolist() == pytest.approx([1, 0, 0], abs=1e-6)


@pytest.mark.parametrize(
    "settings", [{"cycle_threshold_px": 0.0}, {"similarity_threshold": 1.0}, {"anchor_threshold": 1.0}]
)
def test_thresholds_that_cannot_be_are_refused(settings):
    with pytest.raises(ConfigError, match=f"visibility.{next(iter(settings))} must be"):
        VisibilityConfig(**settings)
