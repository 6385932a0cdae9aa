"""Where and how a command runs, from its request."""

from __future__ import annotations

from functools import partial

from t4g_tracker.cache import Cache
from t4g_tracker.commands.arguments import RunRequest
from t4g_tracker.hardware import pick_device
from t4g_tracker.stage_cache import Run, Stop, never
from t4g_tracker.stage_log import StageLog, progress_bar


def run_of(request: RunRequest, stop: Stop = never) -> Run:
    """Choose device, seed, cache and progress bars by the request.

    Raises:
        ConfigError: If the machine lacks the device.
        OutputError: If the cache's folder cannot be written.
    """
    device = pick_device(request.device)
    return Run(
        device=device,
        seed=request.seed,
        cache=Cache.open(request.cache, request.fresh),
        bar=partial(progress_bar, quiet=request.quiet),
        stop=stop,
        log=StageLog(peaks=True, device=device),
    )
