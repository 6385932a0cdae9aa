"""Whether confidence is a probability: bins, calibration error, the fit of a logistic, the diagram."""

import json
import math

import pytest
import torch

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.diagnosis.clip import Diagnosis
from t4g_tracker.diagnosis.diagram import reliability_figure
from t4g_tracker.diagnosis.reliability import ALL, FINE_BINS, VISIBLE, Reliability
from t4g_tracker.diagnosis.tables import diagnosis_tables


def a_sample(slope, intercept, count=40_000, seed=0):
    """Points found with the probability sigmoid(slope * log odds of confidence + intercept)."""
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(1, count, generator=generator)
    chance = torch.sigmoid(slope * torch.logit(confidence, 1e-4) + intercept)
    found = torch.rand(1, count, generator=generator) < chance
    return Reliability.of(confidence, found, torch.ones_like(found))


def of(confidence, found, counted=None):
    found = torch.tensor([found])
    counted = torch.ones_like(found) if counted is None else torch.tensor([counted])
    return Reliability.of(torch.tensor([confidence]), found, counted)


def test_a_probability_has_hardly_an_error_and_slope_one():
    figures = a_sample(1.0, 0.0).figures()
    assert figures["calibration error"] < 1
    assert figures["confidence"] == pytest.approx(figures["found"], abs=1)
    assert (figures["slope"], figures["intercept"]) == pytest.approx((1, 0), abs=0.05)


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, 0.0), (1.6, -2.0), (1.0, 1.0)])
def test_the_fit_finds_how_found_points_depend_on_confidence(slope, intercept):
    sample = a_sample(slope, intercept)
    assert sample.logistic() == pytest.approx((slope, intercept), abs=0.06)
    assert sample.calibration_error() > 5


def test_points_told_outside_do_not_change_the_fit_but_the_error():
    sample, edge = a_sample(1.0, 0.0), of([0.0] * 40_000, [True] * 40_000)
    both = Reliability.joined([sample, edge])
    assert both.logistic() == pytest.approx(sample.logistic(), abs=1e-6)
    assert both.calibration_error() > 45


def test_the_error_weighs_bins_by_their_points():
    """Three points at 0.95, of which two are found, and one at 0.25 that is not."""
    sample = of([0.95, 0.95, 0.95, 0.25], [True, True, False, False])
    assert sample.calibration_error() == pytest.approx(100 * (3 * (0.95 - 2 / 3) + 0.25) / 4)
    assert sample.bins().points == [0, 0, 1, 0, 0, 0, 0, 0, 0, 3]
    assert sample.bins().found == [0, 0, 0, 0, 0, 0, 0, 0, 0, 2]


def test_only_what_counts_is_counted_and_the_ends_are_in_bins():
    sample = of([0.0, 1.0, 0.5], [False, True, True], [True, True, False])
    assert (sum(sample.points), sample.points[0], sample.points[-1]) == (2, 1, 1)
    assert (sample.bins().points[0], sample.bins().points[-1]) == (1, 1)
    assert sample.calibration_error() == 0


def test_without_points_or_with_all_found_nothing_is_claimed():
    nothing = of([0.5], [True], [False]).figures()
    assert all(math.isnan(value) for name, value in nothing.items() if name != "points")
    assert all(map(math.isnan, of([0.3, 0.6], [True, True]).logistic()))


@pytest.mark.parametrize(
    ("confidence", "found", "told"),
    [
        ([0.2, 0.3, 0.8, 0.9], [False, False, True, True], False),
        ([0.2, 0.3, 0.8, 0.9], [True, True, False, False], False),
        ([0.2, 0.5, 0.5, 0.9], [False, False, True, True], False),  # they touch
        ([0.5, 0.5], [False, True], False),
        ([0.2, 0.3, 0.8, 0.9], [False, True, False, True], True),
    ],
)
def test_the_slope_is_told_only_if_found_and_missed_points_overlap(confidence, found, told):
    assert all(map(math.isfinite if told else math.isnan, of(confidence, found).logistic()))


def test_clips_join_with_every_point_of_equal_weight():
    first, second = of([0.9, 0.9], [True, True]), of([0.9, 0.1], [False, False])
    joined = Reliability.joined([first, second])
    assert joined == of([0.9, 0.9, 0.9, 0.1], [True, True, False, False])
    diagnoses = {
        name: Diagnosis(confidence={"x": {ALL: part}}) for name, part in {"a": first, "b": second}.items()
    }
    rows = list(diagnosis_tables(diagnoses).values())[-2].rows
    assert [row[:6] for row in rows] == [
        ["a", "x", ALL, "2", "90.0", "100.0"],
        ["b", "x", ALL, "2", "50.0", "0.0"],
        ["all 2 together", "x", ALL, "4", "70.0", "50.0"],
    ]


def test_the_diagram_has_the_clips_and_all_together_against_the_diagonal():
    clips = [{"flow": {kind: a_sample(1.0, shift) for kind in (ALL, VISIBLE)}} for shift in (0.0, 2.0)]
    figure = reliability_figure(clips)
    diagonal, calm, bold, together = figure.axes[0].lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [100, 100]]
    assert abs(calm.get_xdata() - calm.get_ydata()).max() < 3
    assert (bold.get_ydata() > together.get_ydata()).all()
    assert (together.get_ydata() > calm.get_ydata()).all()


def test_bins_of_few_points_are_not_in_the_diagram():
    sample = of([0.95] * 30 + [0.15] * 3, [True] * 30 + [False] * 3)
    figure = reliability_figure([{"flow": {ALL: sample, VISIBLE: sample}}])
    assert len(figure.axes[0].lines[-1].get_xdata()) == 1
    assert figure.axes[0].lines[-1].get_xydata()[0] == pytest.approx([95, 100])


def outcome(part):
    written = json.loads(json.dumps(ClipOutcome("a", error="x").as_json()))
    return {
        **written,
        "diagnosis": {"methods": {}, "flow": {}, "picture": "", "confidence": {"x": {ALL: part}}},
    }


def test_a_record_is_read_as_it_was_written_and_a_damaged_one_told():
    sample = of([0.9, 0.2], [True, False])
    part = {"points": sample.points, "confidence": sample.confidence, "found": sample.found}
    read = ClipOutcome.from_json(outcome(part), [])
    assert read.diagnosis.confidence == {"x": {ALL: sample}}
    for damaged in ({**part, "found": [1.0]}, {**part, "points": ["many"] * FINE_BINS}, {"points": []}, 3):
        with pytest.raises(ValueError, match=r"confidence|record"):
            ClipOutcome.from_json(outcome(damaged), [])
