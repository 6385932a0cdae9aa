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


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to every item, on as many threads as PyTorch computes with; results come in order.

    Each thread computes on one core alone. So none waits for another in the middle of an item, which costs
    much where other programs use the cores too: a thread of OpenMP that waits keeps its core busy. OpenCV
    and PyTorch release Python's lock while they compute.

    Args:
        function: Called from several threads at once; gradients are not recorded in them. With one thread,
            called by the caller's own.
        items: Taken as results are used, a few ahead.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for item in items:
            yield _without_gradients(function, item)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for item in items:
            waiting.append(pool.submit(_without_gradients, function, item))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the initialiser sets what threads made later begin with


@torch.no_grad()
def _without_gradients(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
