"""What the log of stages says that they took."""

from t4g_tracker.stage_log import StageLog


def test_memory_is_the_gpus_where_any_stage_used_it():
    log = StageLog()
    log.stages = {
        "flow": {"seconds": 1.0, "peak_memory_mb": 2000.0, "peak_gpu_memory_mb": 0.0},
        "features": {"seconds": 2.0, "peak_memory_mb": 2500.0, "peak_gpu_memory_mb": 300.0},
    }
    assert log.spent("flow", "features") == (3.0, 300.0)
    assert log.spent("flow") == (1.0, 2000.0)
