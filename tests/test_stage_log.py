"""What the log of stages says that they took."""

import contextlib
import time

import pytest

from t4g_tracker import stage_log
from t4g_tracker.stage_log import StageLog, bars_of


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when told to."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def pass_time(seconds):
        now[0] += seconds

    return pass_time


def test_memory_is_the_gpus_where_any_stage_used_it():
    log = StageLog()
    log.stages = {
        "flow": {"seconds": 1.0, "peak_memory_mb": 2000.0, "peak_gpu_memory_mb": 0.0},
        "features": {"seconds": 2.0, "peak_memory_mb": 2500.0, "peak_gpu_memory_mb": 300.0},
    }
    assert log.spent("flow", "features") == (3.0, 300.0)
    assert log.spent("flow") == (1.0, 2000.0)


def test_a_stage_within_a_stage_is_not_counted_twice(clock):
    log = StageLog()
    with log.stage("tracking"):
        clock(1)
        with log.stage("flow"):
            clock(4)
        clock(2)
    assert {name: entry["seconds"] for name, entry in log.stages.items()} == {"tracking": 3, "flow": 4}


def test_a_stage_that_runs_again_adds_to_its_seconds_also_when_it_fails(clock):
    log = StageLog()
    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt), log.stage("adaptation"):
            clock(1.5)
            raise KeyboardInterrupt
    assert log.spent("adaptation")[0] == 3


def test_what_an_earlier_run_spent_counts_where_its_result_is_used():
    log = StageLog(cached={"features": 60.0})
    assert log.spent("features", "flow") == (60.0, 0.0)


def test_memory_is_measured_on_request_alone(monkeypatch):
    """To measure it resets the process's own record, which belongs to the program."""
    resets = []
    monkeypatch.setattr(stage_log, "_reset_peak", resets.append)
    for peaks in (False, True):
        log = StageLog(peaks=peaks)
        with log.stage("flow"):
            assert bool(resets) == peaks
        assert ("peak_memory_mb" in log.stages["flow"]) == peaks


def test_progress_is_reported_by_stage():
    heard = []
    with bars_of(lambda *now: heard.append(now))("flow", "pair") as report:
        report(3, 7)
        report(7, 7, "a note")
    assert heard == [("flow", 3, 7), ("flow", 7, 7)]
