"""Batches, and which items each step takes: the same whether a training was interrupted or not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from t4g_tracker.seeds import generator_for
from t4g_tracker.training.loop.data_workers import generate_ahead


class TensorBatch:
    """A dataclass of tensors that can be moved to a device."""

    def to(self, device: torch.device) -> Self:
        """The same tensors on a device."""
        moved = {
            entry.name: getattr(self, entry.name).to(device, non_blocking=True)
            for entry in fields(self)  # type: ignore[arg-type]
        }
        return type(self)(**moved)


@dataclass(frozen=True)
class ItemOrder:
    """Which items a process takes in each step: shuffled anew in every epoch, none of them twice in one."""

    count: int  # different items
    batch: int  # items a step and process
    processes: int
    process: int  # number of this one
    seed: int

    def at_step(self, step: int) -> list[tuple[int, int]]:
        """(index of the item, number of items taken before it) for each item of a step's batch."""
        first = (step * self.processes + self.process) * self.batch
        items = []
        for place in range(first, first + self.batch):
            epoch, index = divmod(place, self.count)
            items.append((int(_shuffled(self.count, self.seed, epoch)[index]), place))
        return items


@lru_cache(maxsize=2)  # a batch may begin in one epoch and end in the next
def _shuffled(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(f"order {seed} {epoch}"))


def batches_from(
    items: Dataset[Any],
    collate: Callable[[list[Any]], Any],
    order: ItemOrder,
    first: int,
    workers: int,
    context: Any = None,
) -> Generator[Any, None, None]:
    """Yield the batch of every step from ``first`` on, without end; close it to end its workers.

    Args:
        items: Indexed by what ``ItemOrder.at_step`` returns.
        collate: Makes a batch from a list of items.
        order: Which items each step takes.
        first: First step.
        workers: Processes that generate batches ahead; with 0, this process generates each when it is taken.
        context: As ``generate_ahead`` takes it.

    Raises:
        TrainingError: If a worker was killed.
        Exception: What generating an item raised, whichever process generated it.
    """
    generate = _BatchOfStep(items, collate, order)
    if workers:
        return generate_ahead(generate, first, workers, context)
    return (generate(step) for step in itertools.count(first))


@dataclass(frozen=True)
class _BatchOfStep:
    items: Dataset[Any]
    collate: Callable[[list[Any]], Any]
    order: ItemOrder

    def __call__(self, step: int) -> Any:
        return self.collate([self.items[item] for item in self.order.at_step(step)])
