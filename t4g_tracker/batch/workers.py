"""Clips measured one after another here, or side by side in processes of their own.

However many there are, a clip is measured by the same call with the same number of threads, so its
results are the same.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection

import cv2
import torch

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.worker_progress import Report, report_to
from t4g_tracker.errors import TrackerError, one_line

Measure = Callable[[str, str], ClipOutcome]  # from a clip's name and a device; sent to processes: picklable


@dataclass(frozen=True)
class Share:
    """How many clips are measured at once, and what each may use."""

    workers: int = 1
    threads: int = 1  # of the processor, for each
    device: str = "cpu"  # of the first; on CUDA, workers take the GPUs in turn
    in_process: bool = False  # a single worker may be this process, which then must not be killed

    def device_of(self, worker: int) -> str:
        """The device of a worker by its number."""
        if self.device != "cuda" or torch.cuda.device_count() < 2:
            return self.device
        return f"cuda:{worker % torch.cuda.device_count()}"


def measure_all(
    names: list[str], measure: Measure, share: Share, report: Report | None = None
) -> Iterator[ClipOutcome]:
    """Measure clips and yield each outcome as it comes.

    Args:
        names: The clips.
        measure: From a clip's name and a device to its outcome; picklable.
        share: Processes and threads.
        report: Called with how far the clips in hand are, perhaps from another thread.

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
    before = set(multiprocessing.active_children())  # somebody else's
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    done: queue.SimpleQueue[ClipOutcome] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    keepers = [
        threading.Thread(
            target=_keep_busy,
            args=(waiting, done, measure, share.threads, share.device_of(number), report),
            daemon=True,
        )
        for number in range(min(share.workers, len(names)))
    ]
    for keeper in keepers:
        keeper.start()
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
    """The outcome of a clip; what goes wrong is recorded in it."""
    try:
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)  # whose memory is measured
        return measure(name, device)
    except TrackerError as error:
        return ClipOutcome(name, error=one_line(error))
    except Exception as error:
        line = f"{type(error).__name__}: {one_line(error)}"
        return ClipOutcome(name, error=line, trace=traceback.format_exc())


def _keep_busy(
    waiting: queue.SimpleQueue[str],
    done: queue.SimpleQueue[ClipOutcome],
    measure: Measure,
    threads: int,
    device: str,
    report: Report | None,
) -> None:
    """Give clips to one process until there are no more; a process that dies is replaced."""
    context = multiprocessing.get_context("spawn")
    executor: ProcessPoolExecutor | None = None
    while True:
        try:
            name = waiting.get_nowait()
        except queue.Empty:
            break
        try:
            if executor is None:  # each with a pipe of its own: one that dies writing blocks no other
                receiver, sender = context.Pipe(duplex=False)
                executor = ProcessPoolExecutor(1, context, _begin, (threads, sender))
                threading.Thread(target=_pass_on, args=(receiver, report), daemon=True).start()
            done.put(executor.submit(attempt, measure, name, device).result())
        except BrokenProcessPool:
            executor = None
            lost = "its process was killed, probably out of memory; try fewer --workers"
            done.put(ClipOutcome(name, error=lost))
        except BaseException as error:  # an interrupt inside the process
            done.put(ClipOutcome(name, error=f"{type(error).__name__}: {one_line(error)}"))
    if executor is not None:
        executor.shutdown(wait=False)


def _pass_on(receiver: Connection, report: Report | None) -> None:
    """Pass on what a process reports of its clips."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            clip, where = receiver.recv()
            if report is not None:
                report(clip, where)


def _begin(threads: int, sender: Connection) -> None:
    """What a process does first: take its share of threads, and end when its parent ends."""
    use_threads(threads)
    report_to(lambda clip, where: sender.send((clip, where)))
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def use_threads(threads: int) -> None:
    """Compute with this many threads from now on, in this process."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
