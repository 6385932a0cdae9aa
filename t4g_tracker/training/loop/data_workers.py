"""Data workers: processes that generate batches ahead of the training.

A worker can be killed at any moment, most often because memory runs out. Its loss must surface in one place
only, where its next batch is taken, and always as a TrainingError. So each worker has a pipe of its own,
which ends when the worker ends, even in the middle of a message, and no two workers share a lock or a queue.
Batches are sent as plain bytes, so a dead worker leaves nothing in shared memory.

The usual pools do not offer this. torch's DataLoader handles SIGCHLD in the training process, and then raises
wherever the main thread happens to be, even in the middle of writing a checkpoint; and the tensors of a dead
worker can no longer be read. The processes of concurrent.futures write to one pipe, which their parent holds
open as well: if one is killed in the middle of a message, the parent waits for the rest forever.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch

from t4g_tracker.errors import TrainingError
from t4g_tracker.hardware import cores

AHEAD = 4  # batches that each worker generates before they are taken
GRACE_S = 5.0  # time for a worker to end by itself before it is killed

Generate = Callable[[int], Any]  # takes the number of a step, returns its batch


def default_workers(device: torch.device, processes: int) -> int:
    """Choose the number of data workers of each training process if ``trainer.workers`` is null.

    On a CPU it is one, since the model uses the cores. With a GPU it is this process's share of the cores
    minus one, at least one, and at most sixteen because each worker holds several batches in memory.
    """
    if device.type == "cpu":
        return 1
    return min(16, max(1, cores() // processes - 1))


def generate_ahead(
    generate: Generate, first: int, count: int, context: Any = None
) -> Generator[Any, None, None]:
    """Yield ``generate(first)``, ``generate(first + 1)`` and so on without end, in this order.

    The workers start when the first batch is taken, and take turns. They end when this generator is closed
    or raises, or when this process dies.

    Args:
        generate: Returns the same batch for the same step in any process. Batches and exceptions are pickled.
        first: First step.
        count: Number of workers, at least 1.
        context: From ``multiprocessing.get_context``; None takes the default start method. Unless that is
            "fork", ``generate`` is pickled too.

    Raises:
        TrainingError: If a worker was killed, in the turn of the first missing batch.
        Exception: Any exception of ``generate``, in the turn of its batch, with the worker's traceback noted.
    """
    context = context or multiprocessing.get_context()
    workers: list[_Worker] = []
    try:
        for number in range(count):
            workers.append(_Worker(context, generate, range(first + number, sys.maxsize, count)))
        for worker in workers:  # starts threads, so only after the last fork, which is unsafe with threads
            worker.start_receiving()
        for worker in itertools.cycle(workers):
            yield worker.take()
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.close()


class _Worker:
    """The training's end of one worker: its process, the pipe to it, and the batches received from it."""

    def __init__(self, context: Any, generate: Generate, steps: range) -> None:
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(
            target=_work, args=(other_end, generate, steps), name="data worker", daemon=True
        )
        self.process.start()
        other_end.close()  # only the worker still holds it open, so the pipe ends with the worker
        self.received: SimpleQueue[Any] = SimpleQueue()
        self.receiver = Thread(target=self._receive, name="batches of a data worker", daemon=True)

    def start_receiving(self) -> None:
        self.receiver.start()
        for _ in range(AHEAD):
            self._request()

    def take(self) -> Any:
        """Wait for the next batch, and request another one."""
        batch = self.received.get()
        if batch is None:
            self.process.join(GRACE_S)
            raise TrainingError(
                f"a data worker was killed (exit code {self.process.exitcode}), probably out of memory; run"
                " the same command to resume; if it happens again, lower trainer.workers or use smaller clips"
            )
        self._request()
        if isinstance(batch, Exception):
            raise batch
        return batch

    def close(self) -> None:
        """Wait for the process to end, then release its thread and pipe."""
        if not wait([self.process.sentinel], GRACE_S):
            self.process.kill()
        self.process.join()
        if self.receiver.ident is not None:  # it was started
            self.receiver.join()
        self.pipe.close()

    def _request(self) -> None:
        with suppress(OSError):  # the worker is gone; the receiver has noticed
            self.pipe.send_bytes(b"another")

    def _receive(self) -> None:
        """Receive batches while the model trains, since a pipe holds only part of one; None marks the end."""
        try:
            with suppress(EOFError, OSError):
                while True:
                    self.received.put(_unpickled(self.pipe.recv_bytes()))
        finally:
            self.received.put(None)


def _work(pipe: Connection, generate: Generate, steps: range) -> None:
    """Run a worker: send one batch for each request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, which ends its workers
    signal.signal(signal.SIGTERM, _leave)
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # the other cores belong to the other workers; also, OpenMP hangs after a fork
    with suppress(EOFError, OSError):  # raised once the training is gone
        for step in steps:
            pipe.recv_bytes()
            pipe.send_bytes(_batch_or_error(generate, step))


def _leave(number: int, frame: object) -> None:
    """End by an exception, so that a half-written cached file is removed."""
    sys.exit(128 + number)


def _end_with_parent() -> None:
    """End this worker when the training process dies, however it dies.

    The parent's id is compared too, because a sibling may hold open the pipe that shows its end.
    """
    parent, adopter = multiprocessing.parent_process(), os.getppid()
    assert parent is not None
    while parent.is_alive() and os.getppid() == adopter:
        parent.join(timeout=1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _batch_or_error(generate: Generate, step: int) -> bytes:
    """Pickle a batch, or the exception raised instead."""
    try:
        return pickle.dumps(generate(step), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        text = f"in a data worker:\n{traceback.format_exc()}"
        error.add_note(text)
        try:
            content = pickle.dumps(error)
            pickle.loads(content)
        except Exception:  # an exception that cannot be pickled or unpickled
            return pickle.dumps(RuntimeError(text))
        return content


def _unpickled(content: bytes) -> Any:
    """Unpickle a batch, or the exception raised instead."""
    try:
        return pickle.loads(content)
    except Exception as error:
        return error
