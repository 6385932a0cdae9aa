"""``t4g bench-flow``: scores of all pixels, and a row for every method."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_flow import shifted_pair

from t4g_tracker.commands.bench_flow import main, score_flow
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.settings import FlowConfig

CPU = torch.device("cpu")


@pytest.fixture
def shifted():
    return shifted_pair()


def test_scores_are_of_all_pixels_both_ways(shifted):
    scores = score_flow(FlowEstimator(FlowConfig(method="dis"), CPU), [shifted])
    assert scores.median_px < 0.1
    assert scores.within_1px > 0.8
    assert scores.mean_px > scores.median_px  # at the borders, where points leave
    wrong_back = replace(shifted, backward=shifted.backward + torch.tensor([3.0, 4.0])[:, None, None])
    scores = score_flow(FlowEstimator(FlowConfig(method="dis"), CPU), [wrong_back])
    assert scores.within_1px == pytest.approx(0.5, abs=0.1)  # right ahead, off by 5 px on the way back


def test_bench_flow_has_a_row_for_every_method_and_for_what_is_set(capsys):
    size = ["--pairs", "1", "--height", "128", "--width", "160", "--device", "cpu"]
    assert main([*size, "--set", "flow.method=dis", "finest_scale=1"]) == 0
    heading, _, *rows = capsys.readouterr().out.splitlines()
    table = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in rows}
    assert list(table) == [
        "DIS, medium preset",
        "DIS at full size",
        "raft-mini",
        "raft-mini at half size",
        "raft-mini at half size, refine=dis",
        "raft-mini at half size, refine=best",
        "raft-mini at half size, refine=dis finest_scale=1",
        "method=dis finest_scale=1",
    ]
    assert table["method=dis finest_scale=1"][:-1] == table["DIS, medium preset"][:-1]  # but for the time
    assert {len(cells) for cells in table.values()} == {heading.count("|") - 2}
    assert len({cells[0] for cells in table.values()}) > 3
