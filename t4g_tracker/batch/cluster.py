"""Measuring clips on the machines of a Ray cluster, by the same call as on one machine.

Ray starts tasks where cores and GPUs are free, and restarts a task whose machine is lost. Every
machine needs this program, the data set and the cache under the same paths.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.workers import Measure, attempt, use_threads
from t4g_tracker.errors import ConfigError, one_line

RETRIES = 3  # of a clip whose machine is lost
TIMEOUT_S = 5.0  # for connecting to the address of a cluster
CHECK_EVERY_S = 60.0  # whether a machine is left that can measure a clip


def connect(address: str) -> Any:
    """Connect to a cluster and return the ``ray`` module.

    Args:
        address: In Ray's form ("auto", "10.0.0.1:6379", "ray://..."), or "local", which starts a cluster
            of this machine alone.

    Raises:
        ConfigError: If Ray is not installed or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray: Ray is not installed; run pip install -e '.[cluster]'") from error
    if ray.is_initialized():
        return ray
    _check_address(address)
    try:
        ray.init(address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--ray {address}: no cluster answers ({one_line(error)}); if it was started with a token "
            "(Ray 2.59 and newer), set RAY_AUTH_MODE=token here too"
        ) from error
    return ray


def _check_address(address: str) -> None:
    """Refuse an address at which nothing listens; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(
            f"--ray {address}: nothing answers ({one_line(error)}); start the cluster with "
            "`ray start --head`, which prints its address, or check the address"
        ) from error


def cluster_device(address: str, requested: str) -> str:
    """Choose the device of the cluster: "cpu" or "cuda"; "auto" is "cuda" if any machine has a GPU.

    Raises:
        ConfigError: As in ``connect``, or if another device is requested.
    """
    if requested not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device {requested}: with --ray it is auto, cpu or cuda; Ray chooses which GPU")
    ray = connect(address)  # refuses a wrong address before anything is written
    if requested == "auto":
        return "cuda" if any(machine.get("GPU", 0) for machine in _machines(ray)) else "cpu"
    return requested


def _machines(ray: Any) -> list[dict[str, float]]:
    """List the resources of each machine of the cluster that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def measure_on_ray(
    names: list[str], measure: Measure, threads: int, device: str, address: str
) -> Iterator[ClipOutcome]:
    """Measure clips on a cluster, and yield outcomes as ``measure_all`` does.

    Args:
        names: The clips.
        measure: Takes a clip's name and a device, returns its outcome; picklable.
        threads: Cores for each clip, at least 1.
        device: "cpu", or "cuda" for one GPU a clip, from ``cluster_device``.
        address: Address of the cluster.

    Raises:
        ConfigError: As in ``connect``, or if no machine of the cluster can measure a clip, now or later.
    """
    ray = connect(address)
    gpus = 1 if device == "cuda" else 0

    def check_machines() -> None:
        machines = _machines(ray)
        if not any(one.get("CPU", 0) >= threads and one.get("GPU", 0) >= gpus for one in machines):
            raise ConfigError(
                f"--ray {address}: no machine of the cluster has {threads} cores and {gpus} GPUs for a clip; "
                "add one, or set --threads lower, or --device cpu"
            )

    check_machines()
    task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)(_measure_on_machine)
    waiting = {task.remote(measure, name, threads, device): name for name in names}
    try:
        while waiting:
            finished, _ = ray.wait(list(waiting), num_returns=1, timeout=CHECK_EVERY_S)
            if not finished:
                check_machines()  # the last suitable one may be gone
                continue
            name = waiting.pop(finished[0])
            try:
                yield ray.get(finished[0])
            except ray.exceptions.RayTaskError as error:  # before the clip was started
                yield ClipOutcome(name, error=f"could not be started on the cluster: {one_line(error.cause)}")
            except ray.exceptions.RayError as error:
                yield ClipOutcome(name, error=f"lost by the cluster: {one_line(error)}")
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _measure_on_machine(measure: Measure, name: str, threads: int, device: str) -> ClipOutcome:
    """Measure one clip; runs on a machine of the cluster."""
    use_threads(threads)
    return attempt(measure, name, device)
