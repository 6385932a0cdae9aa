"""A result and its figures, and what a run prints at its end."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.results import Result, best_measures, closing_lines, score_results
from t4g_tracker.stage_log import StageLog

POINTS = QueryPoints(torch.tensor([0]), torch.tensor([[100.0, 100.0]]), ("a",))
VIDEO = Video(np.zeros((4, 256, 256, 3), np.uint8), 24.0, "x", "x.mp4")


def off_by(*px):
    """Tracks of one point, always visible, that are so far right of (100, 100)."""
    xy = torch.full((1, len(px), 2), 100.0)
    xy[0, :, 0] += torch.tensor(px)
    return Tracks.known(xy, torch.ones(1, len(px), dtype=torch.bool))


def test_a_result_in_json_is_its_figures():
    result = Result("dis", off_by(0.0), {"AJ": 50.0}, 1.5, 100.0)
    record = result.as_json()
    assert record == {"method": "dis", "measures": {"AJ": 50.0}, "seconds": 1.5, "peak_memory_mb": 100.0}
    assert Result.from_json(record) == Result("dis", None, {"AJ": 50.0}, 1.5, 100.0)
    with pytest.raises(KeyError):
        Result.from_json({"name": "dis"})
    with pytest.raises(TypeError):
        Result.from_json({**record, "lines": []})


def test_every_result_is_scored_and_keeps_what_else_is_known():
    right, wrong = (
        Result("right", off_by(0, 0, 0, 0), seconds=2.0),
        Result("wrong", off_by(0, 3, 3, 0.5), step=7),
    )
    scored = score_results([right, wrong], off_by(0, 0, 0, 0), POINTS, VIDEO)
    assert scored[0].measures == {"AJ": 100.0, "delta_avg": 100.0, "OA": 100.0, "<1px": 100.0}
    assert scored[1].measures["<1px"] == pytest.approx(100 / 3)
    assert (scored[0].seconds, scored[1].step) == (2.0, 7)


def test_the_best_is_the_highest_where_there_are_several():
    results = [Result("a", measures={"AJ": 1.0, "OA": 5.0}), Result("b", measures={"AJ": 2.0, "OA": 4.0})]
    assert best_measures(results) == {"AJ": 2.0, "OA": 5.0}
    assert best_measures(results[:1]) == {}
    assert best_measures([Result("a"), Result("b")]) == {}


def test_a_run_ends_with_accuracy_time_and_files():
    log = StageLog(
        stages={
            "tracking": {"seconds": 11.6, "peak_memory_mb": 1640.0},
            "adaptation": {"seconds": 3.4},
            "features": {"seconds": 0.1, "peak_memory_mb": 900.0},  # whatever the order in which they ran
            "flow": {"seconds": 2.0},
        },
        cached={"features": 18.0},
    )
    measures = {"AJ": 19.94, "delta_avg": math.nan, "OA": 60.0, "<1px": 7.0}
    results = [Result("frozen features", measures=measures), Result("not scored")]
    assert closing_lines(Path("out"), results, log, ["run.json", "tracks.csv"]) == [
        "accuracy in percent against the true tracks, scaled to 256x256:",
        "                     AJ  delta_avg    OA  <1px",
        "  frozen features  19.9          -  60.0   7.0",
        "took features cached, flow 2 s, adaptation 3 s, tracking 12 s; at most 1.6 GB of memory",
        "results in out: run.json, tracks.csv",
    ]
    assert closing_lines(Path("out"), [Result("x")], log, ["run.json"])[0].startswith("took ")
