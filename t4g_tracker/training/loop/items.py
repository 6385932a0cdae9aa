"""Training items, generated once and cached: dataclasses of tensors in .npz files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from t4g_tracker.errors import OutputError
from t4g_tracker.inputs.array_files import DAMAGED_ARRAYS
from t4g_tracker.storage.files import atomic_write, prepare_output_folder
from t4g_tracker.storage.unfinished import remove_leftovers

Item = TypeVar("Item")


def check_room(folder: Path, count: int, bytes_each: int, setting: str) -> None:
    """Check, before any work, that the disk has room for all items of a training.

    Args:
        folder: Folder of the cache; created if missing. Files in it count as cached items.
        count: Items of the training.
        bytes_each: Size of one item.
        setting: The setting that reduces their number, for the message.

    Raises:
        OutputError: If the folder cannot be written, or too little space is free.
    """
    prepare_output_folder(folder, 0)
    remove_leftovers(folder)
    missing = max(0, count - sum(1 for _ in folder.glob("[!.]*.npz")))
    free = shutil.disk_usage(folder).free
    if missing * bytes_each > free:
        raise OutputError(
            f"{folder}: {missing} items of {bytes_each / 1e6:.1f} MB may be cached there, but only"
            f" {free / 1e9:.0f} GB are free; set {setting} lower, or leave --keep-clips out"
        )


def cached_or_generated(path: Path, kind: type[Item], generate: Callable[[], Item]) -> Item:
    """Read the item in the file, or generate and cache it if the file is missing or damaged."""
    item = read_cached(path, kind)
    if item is None:
        item = generate()
        write_cached(path, item)
    return item


def read_cached(path: Path, kind: type[Item]) -> Item | None:
    """Read an item of ``write_cached``; None if the file is missing or damaged."""
    names = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return kind(**{name: torch.from_numpy(arrays[name]) for name in names})
    except DAMAGED_ARRAYS:
        return None


def write_cached(path: Path, item: Any) -> None:
    """Write a dataclass of tensors, whole or not at all."""
    arrays = {entry.name: getattr(item, entry.name).numpy() for entry in fields(item)}
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)
