"""Data workers: processes that generate batches ahead of the training.

A worker can be killed at any moment, most often because memory runs out. Its loss surfaces in one place only,
where the next batch that it owes is taken, and always as a TrainingError. To that end each worker has a pipe
of its own, which ends when the worker ends, even in the middle of a message, and no two workers share a lock
or a queue. Batches travel as plain bytes, so a dead worker leaves nothing behind in shared memory.

The usual pools do not offer this. The DataLoader of torch handles SIGCHLD in the training process, and then
raises wherever the main thread happens to be, even in the middle of writing a checkpoint; and the tensors of
a dead worker can no longer be fetched. The processes of concurrent.futures write to one pipe, which their
parent holds open as well: if one is killed in the middle of a message, the parent waits for the rest forever.
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

AHEAD = 4  # batches of each worker that are generated before they are taken
GRACE_S = 5.0  # for a worker to end by itself before it is killed

Generate = Callable[[int], Any]  # from the number of a step to its batch


def default_workers(device: torch.device, processes: int) -> int:
    """How many data workers each process of a training has where ``trainer.workers`` leaves it open.

    One where the model trains on the CPU, which the model keeps busy; beside a GPU, this process's share of
    the cores but one, at least one and at most eight, because each worker holds several batches in memory.
    """
    if device.type == "cpu":
        return 1
    return min(8, max(1, cores() // processes - 1))


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
        context: From ``multiprocessing.get_context``; None takes the default start method. Where it is not
            "fork", ``generate`` is pickled too.

    Raises:
        TrainingError: If a worker was killed, in the turn of the first batch that is missing.
        Exception: What ``generate`` raised, in the turn of its batch, with the worker's traceback as a note.
    """
    context = context or multiprocessing.get_context()
    workers: list[_Worker] = []
    try:
        for number in range(count):
            workers.append(_Worker(context, generate, range(first + number, sys.maxsize, count)))
        for worker in workers:  # after the last fork, because forking beside threads is unsafe
            worker.start_receiving()
        for worker in itertools.cycle(workers):
            yield worker.take()
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.close()


class _Worker:
    """The training's side of one worker: its process, the pipe to it, and the batches received from it."""

    def __init__(self, context: Any, generate: Generate, steps: range) -> None:
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(
            target=_work, args=(other_end, generate, steps), name="data worker", daemon=True
        )
        self.process.start()
        other_end.close()  # now only the worker holds it open, so the pipe ends with the worker
        self.received: SimpleQueue[Any] = SimpleQueue()
        self.receiver = Thread(target=self._receive, name="batches of a data worker", daemon=True)

    def start_receiving(self) -> None:
        self.receiver.start()
        for _ in range(AHEAD):
            self._request()

    def take(self) -> Any:
        """Wait for the next batch, and have another one generated for it."""
        batch = self.received.get()
        if batch is None:
            self.process.join(GRACE_S)
            raise TrainingError(
                f"a data worker was killed (exit code {self.process.exitcode}), perhaps because memory ran"
                " out; the same command resumes the training; if it happens again, lower trainer.workers or"
                " use smaller clips"
            )
        self._request()
        if isinstance(batch, Exception):
            raise batch
        return batch

    def close(self) -> None:
        """Wait for the process to end, then release what belongs to it."""
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
        """Read batches while the model trains: a pipe holds only a small part of one. None marks the end."""
        try:
            with suppress(EOFError, OSError):
                while True:
                    self.received.put(_unpickled(self.pipe.recv_bytes()))
        finally:
            self.received.put(None)


def _work(pipe: Connection, generate: Generate, steps: range) -> None:
    """What a worker does: one batch for each request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, which ends its workers itself
    signal.signal(signal.SIGTERM, _leave)
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # the other cores belong to the other workers; also, OpenMP hangs after a fork
    with suppress(EOFError, OSError):  # the training is gone
        for step in steps:
            pipe.recv_bytes()
            pipe.send_bytes(_batch_or_error(generate, step))


def _leave(number: int, frame: object) -> None:
    """End by an exception, so that a cached file that is being written is cleaned up."""
    sys.exit(128 + number)


def _end_with_parent() -> None:
    """End this worker when the training process dies, however it dies.

    The parent's id is compared too, because a sibling may hold open the pipe by which its end is noticed.
    """
    parent, adopter = multiprocessing.parent_process(), os.getppid()
    assert parent is not None
    while parent.is_alive() and os.getppid() == adopter:
        parent.join(timeout=1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _batch_or_error(generate: Generate, step: int) -> bytes:
    """A batch, or the exception instead of it, as bytes."""
    try:
        return pickle.dumps(generate(step), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        text = f"in a data worker:\n{traceback.format_exc()}"
        error.add_note(text)
        try:
            content = pickle.dumps(error)
            pickle.loads(content)
        except Exception:  # an exception that cannot be pickled, or not be made from its pickle
            return pickle.dumps(RuntimeError(text))
        return content


def _unpickled(content: bytes) -> Any:
    """A batch, or the exception instead of it, from the bytes."""
    try:
        return pickle.loads(content)
    except Exception as error:
        return error
