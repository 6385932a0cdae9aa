"""Clips measured on the machines of a Ray cluster, by the same call as here.

Ray places tasks where cores and GPUs are free, and starts a task again when its machine is lost.
Every machine needs this program, the data set and the cache under the same paths.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.workers import Measure, attempt, use_threads
from t4g_tracker.errors import ConfigError, one_line

RETRIES = 3  # for a clip whose machine is lost
PATIENCE_S = 5.0  # for the address of a cluster to answer
SECONDS_BETWEEN_LOOKS = 60.0  # whether any machine is left that can take a clip


def connect(address: str) -> Any:
    """Connect to a cluster and return the ``ray`` module.

    Args:
        address: As Ray takes it ("auto", "10.0.0.1:6379", "ray://..."), or "local", which starts one of this
            machine alone.

    Raises:
        ConfigError: If Ray is not installed or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray: Ray is not installed; run pip install -e '.[cluster]'") from error
    if ray.is_initialized():
        return ray
    _knock(address)
    try:
        ray.init(address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--ray {address}: no cluster answers there ({one_line(error)}); if it was started with a token "
            "(Ray 2.59 and newer), set RAY_AUTH_MODE=token here too"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S).close()
    except OSError as error:
        raise ConfigError(
            f"--ray {address}: nothing answers there ({one_line(error)}); start the cluster with "
            "`ray start --head`, which prints its address, or check the address"
        ) from error


def device_there(address: str, wanted: str) -> str:
    """What clips are computed on there: "cpu" or "cuda"; "auto" is "cuda" where any machine has a GPU.

    Raises:
        ConfigError: As ``connect``, or if it is something else.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device {wanted}: with --ray it is auto, cpu or cuda; Ray chooses which GPU")
    ray = connect(address)  # refuses a wrong address before anything is written
    if wanted == "auto":
        return "cuda" if any(has.get("GPU", 0) for has in _machines(ray)) else "cpu"
    return wanted


def _machines(ray: Any) -> list[dict[str, float]]:
    """What each machine of the cluster that is alive has in all."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def measure_on_ray(
    names: list[str], measure: Measure, threads: int, device: str, address: str
) -> Iterator[ClipOutcome]:
    """Measure clips on a cluster; arguments and outcomes as ``measure_all``.

    Args:
        names: The clips.
        measure: From a clip's name and a device to its outcome; picklable.
        threads: Cores that a clip takes, at least 1.
        device: "cpu", or "cuda" for one GPU a clip, from ``device_there``.
        address: Of the cluster.

    Raises:
        ConfigError: As ``connect``, or if no machine of the cluster has what a clip takes, now or later.
    """
    ray = connect(address)
    gpus = 1 if device == "cuda" else 0

    def find_a_machine() -> None:
        if not any(has.get("CPU", 0) >= threads and has.get("GPU", 0) >= gpus for has in _machines(ray)):
            raise ConfigError(
                f"--ray {address}: no machine of the cluster has {threads} cores and {gpus} GPUs for a clip; "
                "add one, or set --threads lower, or --device cpu"
            )

    find_a_machine()
    task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)(_measure_there)
    waiting = {task.remote(measure, name, threads, device): name for name in names}
    try:
        while waiting:
            finished, _ = ray.wait(list(waiting), num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
            if not finished:
                find_a_machine()  # the last one that could may be gone
                continue
            name = waiting.pop(finished[0])
            try:
                yield ray.get(finished[0])
            except ray.exceptions.RayTaskError as error:  # before the clip was begun
                yield ClipOutcome(name, error=f"could not be begun on the cluster: {one_line(error.cause)}")
            except ray.exceptions.RayError as error:
                yield ClipOutcome(name, error=f"lost by the cluster: {one_line(error)}")
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _measure_there(measure: Measure, name: str, threads: int, device: str) -> ClipOutcome:
    """What a machine of the cluster does."""
    use_threads(threads)
    return attempt(measure, name, device)
