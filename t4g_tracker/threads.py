"""Work spread over the processor's cores: one item a thread, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # items in work for each thread, so that none waits for the caller
MOST = 8  # threads, which bounds the memory of items in work


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to every item, on as many threads as PyTorch computes with; results come in order.

    Each thread computes on one core alone. So none waits for another in the middle of an item, which costs
    much where other programs use the cores too: a thread of OpenMP that waits keeps its core busy. OpenCV
    and PyTorch release Python's lock while they compute.

    While results are taken, threads that the program makes elsewhere begin with one core too.

    Args:
        function: Called from several threads at once; gradients are not recorded in them. With one thread,
            called by the caller's own.
        items: Taken as results are used, a few ahead.
    """
    before = torch.get_num_threads()
    threads = min(before, MOST)
    if threads == 1:
        for item in items:
            yield _without_gradients(function, item)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, initializer=_compute_alone)
    try:
        for item in items:
            waiting.append(pool.submit(_without_gradients, function, item))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # the initialiser sets what threads made later begin with


def _compute_alone() -> None:
    """Let this thread compute on one core from now on."""
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread takes up the number when it first asks for it, and keeps it


@torch.no_grad()
def _without_gradients(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
