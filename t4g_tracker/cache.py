"""Results cached between runs, found by the content of the video and the settings that matter.

An entry is written to a temporary file and renamed, so a killed run leaves a whole entry
or none. Each entry holds its own key; a file that is cut short or belongs to other
settings is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from t4g_tracker.errors import CacheError, OutputError
from t4g_tracker.files import atomic_write, default_cache_folder, prepare_output_folder

PLACE = "folder with --cache"  # in errors
FORMAT = 4  # raise it when the content of an entry, or its computation, changes


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
    not_before: float = 0.0  # find only what was written since this time, seconds since the epoch

    @staticmethod
    def open(folder: Path, fresh: bool) -> Cache:
        """Open the cache in ``folder``; a fresh one finds only what this run writes.

        Raises:
            OutputError: If the folder cannot be written.
        """
        prepare_output_folder(folder, place=PLACE)
        return Cache(folder, time.time() if fresh else 0.0)

    def of(self, content: str) -> Cache:
        """The part of the cache that belongs to the video with this digest."""
        return Cache(self.folder / content[:24], self.not_before)

    def path(self, kind: str, key: str) -> Path:
        return self.folder / f"{kind}-{key}.pt"

    def has(self, kind: str, key: str) -> bool:
        """Whether ``load`` would find an entry, whole or not."""
        path = self.path(kind, key)
        return path.exists() and path.stat().st_mtime >= self.not_before

    def load(self, kind: str, key: str) -> Any | None:
        """Load an entry's payload, or None if there is no entry; raises like ``load_timed``."""
        entry = self.load_timed(kind, key)
        return None if entry is None else entry[0]

    def load_timed(self, kind: str, key: str) -> tuple[Any, float] | None:
        """Load an entry's payload and the seconds it took to compute, or None if there is no entry.

        Raises:
            CacheError: If the file is cut short, unreadable or made with other settings.
        """
        path = self.path(kind, key)
        try:
            if path.stat().st_mtime < self.not_before:
                return None
            entry = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (PermissionError, MemoryError) as error:
            raise CacheError(f"{path}: cache entry cannot be read ({_why(error)})") from error
        except Exception as error:  # whatever unpickling half a file may raise
            raise CacheError(
                f"{path}: cache entry is cut short or damaged; delete it or run with --fresh"
            ) from error
        if not isinstance(entry, dict) or entry.get("key") != key or entry.get("kind") != kind:
            raise CacheError(
                f"{path}: cache entry was made with other settings; delete it or run with --fresh"
            )
        return entry["payload"], float(entry.get("seconds", 0.0))

    def save(self, kind: str, key: str, payload: Any, seconds: float = 0.0) -> None:
        """Save an entry, and the seconds it took to compute, whole or not at all.

        Raises:
            OutputError: If the folder cannot be written or the disk is full.
        """
        prepare_output_folder(self.folder, place=PLACE)
        entry = {"kind": kind, "key": key, "payload": payload, "seconds": seconds}
        save_torch(self.path(kind, key), entry, PLACE)

    def remove(self, kind: str, key: str) -> None:
        self.path(kind, key).unlink(missing_ok=True)


def save_torch(path: Path, payload: Any, place: str) -> None:
    """Save a file for ``torch.load``, whole or not at all.

    Args:
        path: The file; its folder must exist.
        payload: Plain containers and tensors.
        place: Name of what the user can change, for error messages.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with atomic_write(path, place) as temporary:
            torch.save(payload, temporary)
    except RuntimeError as error:  # torch's writer raises it when the disk is full
        raise OutputError(
            f"{path}: cannot be written, the disk may be full; free some space or choose another {place}"
        ) from error


def _why(error: BaseException) -> str:
    return "out of memory" if isinstance(error, MemoryError) else "permission denied; choose another --cache"


Value = TypeVar("Value")


def pack(value: Any) -> dict[str, Any]:
    """Convert a dataclass of tensors and plain values to a dict."""
    return {entry.name: getattr(value, entry.name) for entry in fields(value)}


def unpack(kind: type[Value], packed: dict[str, Any]) -> Value:
    """Convert a dict of ``pack`` back to its dataclass.

    Raises:
        CacheError: If the fields are not those of ``kind``.
    """
    try:
        return kind(**packed)
    except TypeError as error:
        raise CacheError(f"a cache entry does not hold a {kind.__name__}; run with --fresh") from error
