"""Files of ``torch.save`` that carry a digest of their content: what has changed since is never believed.

``torch.load`` does not check the checksums in its files. A digest of what was loaded covers more: also
an entry that was edited and saved again.
"""

from __future__ import annotations

import errno
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t4g_tracker.errors import CacheError, OutputError, ran_out_of_memory
from t4g_tracker.storage.files import atomic_write
from t4g_tracker.storage.long_arrays import SMALL, LongArrays

DIGEST = "digest"


def save_torch(path: Path, record: Mapping[str, Any], place: str) -> None:
    """Save a record for ``load_torch``, whole or not at all.

    Args:
        path: The file; its folder must exist.
        record: Plain containers, texts, numbers and tensors, by name.
        place: Name of what the user can change, for error messages.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with atomic_write(path, place) as temporary:
            torch.save({**record, DIGEST: content_digest(record)}, temporary)
    except RuntimeError as error:  # torch's writer raises it when the disk is full
        raise OutputError(
            f"{path}: cannot be written, the disk may be full; free some space or choose another {place}"
        ) from error


def load_torch(path: Path, place: str, remedy: str, arrays: LongArrays | None = None) -> dict[str, Any]:
    """Load a record of ``save_torch`` to the CPU, and check that it is what was saved.

    Args:
        path: The file.
        place: Name of what the user can change if it cannot be read, for error messages.
        remedy: What the user can do about a damaged file.
        arrays: Where arrays are long; if in files, the tensors of a large file stay in it, mapped into
            memory, and must not be written to.

    Raises:
        FileNotFoundError: If there is no such file.
        CacheError: If it cannot be read, is cut short, or holds anything else than what was saved.
    """
    try:
        mapped = arrays is not None and arrays.in_files and path.stat().st_size >= SMALL
        record = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        if arrays is not None and mapped:
            arrays.adopt(record)
        whole = isinstance(record, dict) and record.pop(DIGEST, None) == content_digest(record)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever unpickling half a file may raise
        raise CacheError(f"{path}: {_why_not_loaded(error, place, remedy)}") from error
    if not whole:
        raise CacheError(f"{path}: is damaged, its content is not what was saved; {remedy}")
    return record


def _why_not_loaded(error: Exception, place: str, remedy: str) -> str:
    if ran_out_of_memory(error):
        return "cannot be read (out of memory); end other programs, or use a machine with more memory"
    if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a jump to before the file: half of a zip
        reason = (error.strerror or str(error)).lower()
        return f"cannot be read ({reason}); make it readable, or choose another {place}"
    return f"is cut short or damaged; {remedy}"


def peek(path: Path, name: str) -> Any:
    """Read one plain value of a record without reading its tensors; None if that is not possible."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(name)
    except Exception:  # whatever unpickling half a file may raise
        return None


def content_digest(value: Any) -> str:
    """Digest plain containers, texts, numbers and tensors.

    Tensors enter it by their CRC-32, the cheapest check that finds any burst of wrong bits: 0.05 s for
    200 MB on one core (measured; BLAKE2 0.4 s, and reading such a file from memory 0.1 s).

    Raises:
        TypeError: If there is anything else in it.
    """
    digest = hashlib.blake2b(digest_size=12)
    for part in _parts(value):
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()


def _checksum(tensor: Tensor) -> int:
    """The CRC-32 of a tensor's values in order; of a few rows at a time, since they may have to be copied."""
    rows = max(1, SMALL * len(tensor) // max(1, tensor.nbytes)) if tensor.ndim else 1
    checksum = 0
    for part in tensor.split(rows) if tensor.ndim else [tensor]:
        plain = part.cpu().contiguous().reshape(-1).view(torch.uint8)
        checksum = zlib.crc32(plain.numpy().data, checksum)
    return checksum


def _parts(value: Any) -> Iterator[str]:
    """Name every part of a value in order; no two values have the same names."""
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)} {_checksum(value.detach())}"
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}"
        for key, entry in value.items():
            yield from _parts(key)
            yield from _parts(entry)
    elif isinstance(value, list | tuple):
        yield f"{'list' if isinstance(value, list) else 'tuple'} {len(value)}"
        for entry in value:
            yield from _parts(entry)
    elif value is None or isinstance(value, bool | int | float | str):
        yield f"{type(value).__name__} {value!r}"
    else:
        raise TypeError(f"a {type(value).__name__} cannot be saved; use plain values and tensors")
