"""Results cached between runs, found by the content of the video and the settings that matter.

An entry is written under a temporary name and renamed, so a killed run leaves a whole entry
or none. Each entry holds its own key and a digest; a file that is cut short, changed, or belongs to
other settings is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from t4g_tracker.errors import CacheError, OutputError
from t4g_tracker.storage.files import default_cache_folder, prepare_output_folder
from t4g_tracker.storage.long_arrays import LongArrays
from t4g_tracker.storage.torch_files import load_torch, peek, save_torch
from t4g_tracker.storage.unfinished import remove_leftovers

PLACE = "folder with --cache"  # in errors
REMEDY = "delete it or run with --fresh"
FORMAT = 5  # raise it when the content of an entry, or its computation, changes


def make_key(**parts: Any) -> str:
    """Digest everything that an entry depends on; parts must be plain JSON values."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def digest(tensor: torch.Tensor) -> str:
    """Digest a tensor's content."""
    return hashlib.blake2b(tensor.contiguous().numpy().tobytes(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Cache:
    """A folder of entries."""

    folder: Path = field(default_factory=default_cache_folder)
    fresh_run: str = ""  # name of a fresh run, which finds only entries that carry it

    @staticmethod
    def open(folder: Path, fresh: bool) -> Cache:
        """Open the cache in ``folder``, and remove what killed runs have left unfinished in it.

        A fresh one finds only what this run writes, here or in processes that it is sent to.

        Raises:
            OutputError: If the folder cannot be written.
        """
        prepare_output_folder(folder, place=PLACE)
        remove_leftovers(folder)
        return Cache(folder, secrets.token_hex(8) if fresh else "")

    def of(self, content: str) -> Cache:
        """The part of the cache that belongs to the video with this digest."""
        return Cache(self.folder / content[:24], self.fresh_run)

    def path(self, kind: str, key: str) -> Path:
        return self.folder / f"{kind}-{key}.pt"

    def has(self, kind: str, key: str) -> bool:
        """Whether ``load`` would find an entry, whole or not."""
        path = self.path(kind, key)
        return path.exists() and (not self.fresh_run or peek(path, "fresh_run") == self.fresh_run)

    def forget_older(self, kind: str, key: str) -> None:
        """In a fresh run, remove the entry of another run, so that whoever resumes this run does not use it.

        Raises:
            OutputError: If it cannot be removed.
        """
        if self.fresh_run and not self.has(kind, key):
            self.remove(kind, key)

    def load(self, kind: str, key: str) -> Any | None:
        """Load an entry's payload, or None if there is no entry; raises like ``load_timed``."""
        entry = self.load_timed(kind, key)
        return None if entry is None else entry[0]

    def load_timed(self, kind: str, key: str, arrays: LongArrays | None = None) -> tuple[Any, float] | None:
        """Load an entry's payload and the seconds it took to compute, or None if there is no entry.

        ``arrays`` as for ``load_torch``.

        Raises:
            CacheError: If the file is cut short, changed, unreadable or made with other settings.
        """
        path = self.path(kind, key)
        try:
            entry = load_torch(path, PLACE, REMEDY, arrays)
        except FileNotFoundError:
            return None
        if (entry["kind"], entry["key"]) != (kind, key):
            raise CacheError(f"{path}: was made with other settings; {REMEDY}")
        if self.fresh_run not in ("", entry["fresh_run"]):
            return None
        return entry["payload"], entry["seconds"]

    def save(self, kind: str, key: str, payload: Any, seconds: float = 0.0) -> None:
        """Save an entry, and the seconds it took to compute, whole or not at all.

        Raises:
            OutputError: If the folder cannot be written or the disk is full.
        """
        prepare_output_folder(self.folder, place=PLACE)
        entry = {"kind": kind, "key": key, "fresh_run": self.fresh_run, "seconds": seconds}
        save_torch(self.path(kind, key), {**entry, "payload": payload}, PLACE)

    def remove(self, kind: str, key: str) -> None:
        """Remove an entry, if there is one.

        Raises:
            OutputError: If it cannot be removed.
        """
        path = self.path(kind, key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"{path}: cannot be removed ({reason}); choose another {PLACE}") from error


Value = TypeVar("Value")


def pack(value: Any) -> dict[str, Any]:
    """Convert a dataclass of tensors and plain values to a dict."""
    return {entry.name: getattr(value, entry.name) for entry in fields(value)}


def unpack(kind: type[Value], packed: Any, path: Path) -> Value:
    """Convert a dict of ``pack``, loaded from ``path``, back to its dataclass.

    Raises:
        CacheError: If the fields are not those of ``kind``.
    """
    try:
        return kind(**packed)
    except TypeError as error:
        raise CacheError(f"{path}: does not hold a {kind.__name__}; {REMEDY}") from error
