"""Measuring clips one after another in this process, or side by side in processes of their own.

Every clip is measured by the same call with the same number of threads, so its results do not depend
on the number of processes. A pool of the standard library breaks as a whole when one process dies; so
each process here has a pool of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import cv2
import torch

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.worker_progress import Report, report_to
from t4g_tracker.errors import TrackerError, collected_warnings, one_line

Measure = Callable[[str, str], ClipOutcome]  # takes a clip's name and a device; picklable


@dataclass(frozen=True)
class Share:
    """How many clips are measured at once, and the threads and device of each."""

    workers: int = 1
    threads: int = 1  # of each worker
    device: str = "cpu"  # of the first worker; on CUDA, workers use the GPUs in turn
    in_process: bool = False  # a single worker is this process, so a killed clip ends the batch

    def device_of(self, worker: int) -> str:
        """Choose the device of a worker by its number."""
        if self.device != "cuda" or torch.cuda.device_count() < 2:
            return self.device
        return f"cuda:{worker % torch.cuda.device_count()}"


def measure_all(
    names: list[str], measure: Measure, share: Share, report: Report | None = None
) -> Iterator[ClipOutcome]:
    """Measure clips and yield each outcome as it comes.

    Args:
        names: The clips.
        measure: Takes a clip's name and a device, returns its outcome; picklable.
        share: Processes, threads and device.
        report: Called with the progress of running clips, possibly from another thread.

    Yields:
        An outcome for every name, in the order in which they end; a clip that raises, or whose process
        dies, has ``error`` set.
    """
    if share.workers == 1 and share.in_process:
        use_threads(share.threads)
        report_to(report)
        try:
            for name in names:
                yield attempt(measure, name, share.device)
        finally:
            report_to(None)
        return
    before = set(multiprocessing.active_children())  # started by other code
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    done: queue.SimpleQueue[ClipOutcome] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    for number in range(min(share.workers, len(names))):  # one thread for each process
        device = share.device_of(number)
        work = (waiting, done, measure, share.threads, device, report)
        threading.Thread(target=_run_process, args=work, daemon=True).start()
    try:
        for _ in names:
            yield done.get()
    finally:
        with contextlib.suppress(queue.Empty):  # the caller was interrupted
            while True:
                waiting.get_nowait()
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()


def attempt(measure: Measure, name: str, device: str) -> ClipOutcome:
    """Measure a clip; an error is recorded in its outcome, and so are warnings."""
    with collected_warnings() as warned:
        try:
            if device.startswith("cuda:"):
                torch.cuda.set_device(device)  # so that its memory is measured
            outcome = measure(name, device)
        except TrackerError as error:
            outcome = ClipOutcome(name, error=" ".join(str(error).split()))
        except Exception as error:
            line = f"{type(error).__name__}: {one_line(error)}"
            outcome = ClipOutcome(name, error=line, trace=traceback.format_exc())
    return replace(outcome, warnings=tuple(dict.fromkeys(warned)))


def _run_process(
    waiting: queue.SimpleQueue[str],
    done: queue.SimpleQueue[ClipOutcome],
    measure: Measure,
    threads: int,
    device: str,
    report: Report | None,
) -> None:
    """Send clips to one process until none is left; replace the process if it dies."""
    context = multiprocessing.get_context("spawn")
    executor: ProcessPoolExecutor | None = None
    while True:
        try:
            name = waiting.get_nowait()
        except queue.Empty:
            break
        try:
            if executor is None:  # with a pipe of its own: a process that dies while writing blocks no other
                receiver, sender = context.Pipe(duplex=False)
                executor = ProcessPoolExecutor(1, context, _initialise, (threads, sender))
                threading.Thread(target=_forward_reports, args=(receiver, report), daemon=True).start()
            done.put(executor.submit(attempt, measure, name, device).result())
        except BrokenProcessPool:
            executor = None
            killed = "its process was killed, probably out of memory; try fewer --workers"
            done.put(ClipOutcome(name, error=killed))
        except BaseException as error:  # an interrupt inside the process
            done.put(ClipOutcome(name, error=f"{type(error).__name__}: {one_line(error)}"))
    if executor is not None:
        executor.shutdown(wait=False)


def _forward_reports(receiver: Connection, report: Report | None) -> None:
    """Forward the progress that a process reports."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            clip, progress = receiver.recv()
            if report is not None:
                report(clip, progress)


def _initialise(threads: int, sender: Connection) -> None:
    """Set up a process: number of threads, reports, and a thread that ends it with its parent."""
    use_threads(threads)
    warnings.filterwarnings("ignore", module="PIL")  # as ``guarded`` does in the first process
    report_to(lambda clip, progress: sender.send((clip, progress)))
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def use_threads(threads: int) -> None:
    """Set the number of threads for computing in this process."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
