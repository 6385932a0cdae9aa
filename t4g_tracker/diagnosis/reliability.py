"""Whether confidence is a probability: of the points that claim it, how many are found.

A point is found where it is truly visible and less than ``NEAR_PX`` off at 256x256. Confidence is calibrated
if of all points with a confidence of 0.7, 70 % are found.

Source: reliability diagram and expected calibration error as in Guo et al., arXiv:1706.04599; slope and
intercept of a logistic fit as in Cox, Biometrika 45 (1958), and Platt's scaling (1999).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from t4g_tracker.diagnosis.figures import Figures

FINE_BINS = 101  # what is recorded: confidence 0, then bins of equal width up to 1
BINS = 10  # in the diagram and the error
EDGE = 1e-4  # probabilities nearer to 0 or 1 are taken for this in the fit
FIT_STEPS = 200

ALL, VISIBLE = "all frames", "visible frames"  # what is counted; query frames never are


@dataclass(frozen=True)
class Reliability:
    """Points in ``FINE_BINS`` bins of confidence, in plain numbers that are easily sent and stored."""

    points: list[float]  # how many are in each bin
    confidence: list[float]  # the sum of theirs
    found: list[float]  # how many of them are found

    @staticmethod
    def of(confidence: Tensor, found: Tensor, counted: Tensor) -> Reliability:
        """Count points.

        Args:
            confidence: (N, T) in 0..1.
            found: (N, T) bool.
            counted: (N, T) bool, the points that count.
        """
        value = confidence[counted].double()
        place = (value * (FINE_BINS - 1)).ceil().long()

        def summed(weight: Tensor) -> list[float]:
            total: list[float] = place.bincount(weight.double(), FINE_BINS).tolist()
            return total

        return Reliability(summed(torch.ones_like(value)), summed(value), summed(found[counted]))

    @staticmethod
    def joined(parts: Iterable[Reliability]) -> Reliability:
        """Join those of several clips; every point weighs the same."""
        points, confidence, found = (
            torch.tensor(values, dtype=torch.float64).sum(0).tolist()
            for values in zip(*((part.points, part.confidence, part.found) for part in parts), strict=True)
        )
        return Reliability(points, confidence, found)

    def bins(self) -> Reliability:
        """The same points in ``BINS`` bins of equal width; those with confidence 0 are in the first."""

        def wide(values: list[float]) -> list[float]:
            sums: list[float] = torch.tensor(values[1:], dtype=torch.float64).view(BINS, -1).sum(1).tolist()
            return [sums[0] + values[0], *sums[1:]]

        return Reliability(wide(self.points), wide(self.confidence), wide(self.found))

    def figures(self) -> Figures:
        """Points, their confidence, share found and ``calibration_error`` in percent, and ``logistic``."""
        count = sum(self.points)
        confidence, found = (
            100 * sum(values) / count if count else math.nan for values in (self.confidence, self.found)
        )
        slope, intercept = self.logistic()
        return {
            "points": count,
            "confidence": confidence,
            "found": found,
            "calibration error": self.calibration_error(),
            "slope": slope,
            "intercept": intercept,
        }

    def calibration_error(self) -> float:
        """Expected calibration error in percent, over the bins of the diagram; NaN without points.

        That is how far the mean confidence of a bin is from the share found, averaged over the points.
        """
        wide, count = self.bins(), sum(self.points)
        apart = sum(abs(c - f) for c, f in zip(wide.confidence, wide.found, strict=True))
        return 100 * apart / count if count else math.nan

    def logistic(self) -> tuple[float, float]:
        """Fit log odds of being found = slope * log odds of confidence + intercept, by maximum likelihood.

        Each fine bin stands at its mean confidence. Points of confidence 0 have no log odds and are left
        out: they are told to be outside the frame, whatever their uncertainty.

        Returns:
            Slope and intercept, 1 and 0 if confidence is calibrated; NaN where they cannot be told: if found
            and missed points do not overlap in confidence, no slope is the likeliest.
        """
        points, confidence, found = (
            torch.tensor(values[1:], dtype=torch.float64)
            for values in (self.points, self.confidence, self.found)
        )
        some = points > 0
        points, found = points[some], found[some]
        odds = torch.logit(confidence[some] / points, eps=EDGE)
        of_found, of_missed = odds[found > 0], odds[found < points]
        if not (len(of_found) and len(of_missed)):
            return math.nan, math.nan
        if of_missed.max() <= of_found.min() or of_found.max() <= of_missed.min():
            return math.nan, math.nan
        line = odds.new_tensor([1.0, 0.0], requires_grad=True)
        fit = torch.optim.LBFGS([line], max_iter=FIT_STEPS, line_search_fn="strong_wolfe")

        def unlikeliness() -> float:
            fit.zero_grad()
            log_odds = line[0] * odds + line[1]
            loss = (points * softplus(log_odds) - found * log_odds).sum() / points.sum()
            loss.backward()
            return float(loss.detach())

        fit.step(unlikeliness)
        slope, intercept = line.tolist()
        return slope, intercept
