"""Batches, and the items of each step: the same whether a training was interrupted or not."""

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
        """Move the tensors to a device."""
        moved = {
            entry.name: getattr(self, entry.name).to(device, non_blocking=True)
            for entry in fields(self)  # type: ignore[arg-type]
        }
        return type(self)(**moved)


@dataclass(frozen=True)
class ItemOrder:
    """The items that a process takes in each step: shuffled for every epoch, each once per epoch."""

    count: int  # number of different items
    batch: int  # items per step and process
    processes: int
    process: int  # number of this process
    seed: int

    def at_step(self, step: int) -> list[tuple[int, int]]:
        """List (index, number of items taken before it) for each item of a step's batch."""
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
        items: Indexed by the pairs of ``ItemOrder.at_step``.
        collate: Makes a batch from a list of items.
        order: Chooses the items of each step.
        first: First step.
        workers: Processes that generate batches ahead; with 0, this process generates each when it is taken.
        context: As in ``generate_ahead``.

    Raises:
        TrainingError: If a worker was killed.
        Exception: Any exception of generating an item, in whichever process.
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
