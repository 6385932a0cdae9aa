"""``t4g bench-flow``: measure optical flow on held-out synthetic pairs."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from t4g_tracker.bundled import RAFT_MINI
from t4g_tracker.commands.arguments import add_assignments, add_device
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser, whole
from t4g_tracker.commands.printing import say
from t4g_tracker.config import read_settings
from t4g_tracker.tables import Table, markdown_line, rounded

if TYPE_CHECKING:
    from torch import Tensor

    from t4g_tracker.flow.estimator import FlowEstimator
    from t4g_tracker.flow.settings import FlowConfig
    from t4g_tracker.synthetic.clips import FlowPair

HEADER = ("flow", "mean", "median", "within 1 px", "mean where seen", "ms a flow")


@dataclass(frozen=True)
class FlowScores:
    """End-point errors over all pixels of all pairs, forward and backward."""

    mean_px: float
    median_px: float
    within_1px: float  # share, 0..1
    mean_seen_px: float  # over pixels whose point is visible in the other frame
    seconds: float  # for the flow of one pair, one way

    def cells(self) -> list[str]:
        """The figures of a row below ``HEADER``."""
        return [
            rounded(self.mean_px, 2),
            rounded(self.median_px, 3),
            f"{100 * self.within_1px:.1f} %",
            rounded(self.mean_seen_px, 2),
            rounded(1000 * self.seconds, 0),
        ]


def score_flow(estimator: FlowEstimator, pairs: list[FlowPair]) -> FlowScores:
    """Compare an estimator's flow with exact flow.

    Args:
        estimator: The method to measure.
        pairs: At least one pair of frames.

    Returns:
        Errors in pixels of the frames, and time.
    """
    import torch

    errors, masks, begin = [], [], time.perf_counter()
    for pair in pairs:
        flows = estimator.pairs(torch.stack([pair.first, pair.second]), [(0, 1), (1, 0)]).float()
        for flow, truth, seen in zip(
            flows, (pair.forward, pair.backward), (pair.forward_valid, pair.backward_valid), strict=True
        ):
            errors.append((flow - truth).norm(dim=0).flatten())
            masks.append(seen.flatten())
    seconds = (time.perf_counter() - begin) / (2 * len(pairs))
    error, seen = torch.cat(errors), torch.cat(masks)
    return FlowScores(
        float(error.mean()),
        float(error.median()),
        _share(error < 1),
        float(error[seen].mean()),
        seconds,
    )


def _share(which: Tensor) -> float:
    return float(which.float().mean())


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    request = _parse(argv)
    from t4g_tracker.flow.estimator import FlowEstimator
    from t4g_tracker.hardware import pick_device
    from t4g_tracker.synthetic.clips import val_pairs

    methods = _methods(request.assignments)
    device = pick_device(request.device)
    pairs = val_pairs(request.pairs, (request.height, request.width))
    say(Table(HEADER, []).markdown(), end="")
    for name, config in methods.items():
        scores = score_flow(FlowEstimator(config, device), pairs)
        say(markdown_line([name, *scores.cells()]), end="")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="t4g bench-flow",
        description="Measure end-point errors on held-out synthetic pairs: of DIS, of the bundled RAFT if "
        "present, and of the settings of --set.",
    )
    parser.add_argument("--pairs", type=whole(1, 10_000), default=40, help="number of pairs (default 40)")
    parser.add_argument(
        "--height", type=whole(128, 4096), default=320, help="of the frames, pixels (default 320)"
    )
    parser.add_argument(
        "--width", type=whole(128, 4096), default=576, help="of the frames, pixels (default 576)"
    )
    add_device(parser)
    add_assignments(
        parser,
        "SETTING=VALUE",
        "a row for these settings of the stage flow, e.g. method=raft-small weights=FILE refine=dis",
    )
    return parser.parse(argv)


def _methods(assignments: list[str]) -> dict[str, FlowConfig]:
    """The methods to measure, by name: DIS, the bundled RAFT, and the settings of ``--set``."""
    from t4g_tracker.flow.settings import FlowConfig

    methods = {
        "DIS, medium preset": FlowConfig(method="dis", finest_scale=1),
        "DIS at full size": FlowConfig(method="dis"),
    }
    if RAFT_MINI.is_file():
        half = FlowConfig(method="raft-mini", raft_scale=0.5)
        methods |= {
            "raft-mini": FlowConfig(method="raft-mini"),
            "raft-mini at half size": half,
            "raft-mini at half size, refine=dis": replace(half, refine="dis"),
            "raft-mini at half size, refine=best": replace(half, refine="best"),
            "raft-mini at half size, refine=dis finest_scale=1": replace(half, refine="dis", finest_scale=1),
        }
    if assignments:
        plain = [setting.removeprefix("flow.") for setting in assignments]  # as in other commands
        methods[" ".join(plain)] = read_settings(FlowConfig(), None, plain)
    return methods
