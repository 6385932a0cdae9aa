"""Batches, and which items a training takes in which step: the same whether it was interrupted or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Self

import torch
from torch.utils.data import DataLoader, Dataset

from t4g_tracker.errors import TrackerError, TrainingError
from t4g_tracker.seeds import generator_for


class TensorBatch:
    """A dataclass of tensors that can be brought to a device."""

    def to(self, device: torch.device) -> Self:
        """The same tensors on a device."""
        moved = {
            entry.name: getattr(self, entry.name).to(device, non_blocking=True)
            for entry in fields(self)  # type: ignore[arg-type]
        }
        return type(self)(**moved)


@dataclass(frozen=True)
class Turns(Sized):
    """Which items one process takes, from a step on: shuffled anew in every epoch."""

    count: int  # different items
    batch: int  # items of a step and process
    processes: int
    process: int  # which of them this one is
    start: int  # first step, 0 but where a training goes on
    seed: int

    def __len__(self) -> int:
        return 2**40  # there is always another one

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (index of the item, number of times that any item was asked for before)."""
        turn, shuffled_for, order = self.start, -1, torch.empty(0, dtype=torch.int64)
        while True:
            for number in range(self.batch):
                place = (turn * self.processes + self.process) * self.batch + number
                epoch, index = divmod(place, self.count)
                if epoch != shuffled_for:
                    generator = generator_for(f"order {self.seed} {epoch}")
                    order, shuffled_for = torch.randperm(self.count, generator=generator), epoch
                yield int(order[index]), place
            turn += 1


def batches_from(
    items: Dataset[Any], collate: Callable[[list[Any]], Any], turns: Turns, workers: int
) -> Iterator[Any]:
    """Batches without end, drawn by so many processes while the model trains; 0 draws them in this one.

    Raises:
        TrackerError: What drawing an item raised, as it was raised, whichever process drew it.
        TrainingError: If a process that draws is killed.
    """
    loader = DataLoader(
        _WithErrors(items),
        turns.batch,
        sampler=turns,  # type: ignore[arg-type]
        collate_fn=partial(_collate_or_error, collate),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )
    return _raise_errors(iter(loader))  # begun here, since it draws a seed from torch's global generator


def _raise_errors(batches: Iterator[Any]) -> Iterator[Any]:
    while True:
        with worker_loss_told():
            batch = next(batches)
        if isinstance(batch, TrackerError):
            raise batch
        yield batch


@contextmanager
def worker_loss_told() -> Iterator[None]:
    """PyTorch's way of saying that a drawing process is gone, as a line with a remedy.

    Raises:
        TrainingError: Instead of PyTorch's error; it may come at any time, not only while a batch is awaited.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            "a process that draws items was ended from outside, perhaps for want of memory; the same command"
            " goes on, with lower trainer.workers or smaller clips if need be"
        ) from error


@dataclass(frozen=True)
class _WithErrors(Dataset[Any]):
    """Items, or the error instead: a DataLoader would make a stack trace its message."""

    items: Dataset[Any]

    def __getitem__(self, item: tuple[int, int]) -> Any:
        try:
            return self.items[item]
        except TrackerError as error:
            return error


def _collate_or_error(collate: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    errors = [item for item in items if isinstance(item, TrackerError)]
    return errors[0] if errors else collate(items)
