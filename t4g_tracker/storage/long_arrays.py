"""Arrays as long as a video, in memory or in temporary files.

A file is mapped into memory: it is read and written like memory, and the system keeps no more of it there
than it has room for. The values are the same either way.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t4g_tracker.errors import OutputError

CHUNK_FRAMES = 64  # frames of a video of unknown length that share a file
SMALL = 2**24  # bytes; what takes less stays in memory
_EVERY_S = 0.05  # between two looks at how much memory the process takes
_LEAST = 2**28  # bytes of mapped files that stay in memory, however little the limit leaves
_SHARE = 0.8  # of the limit, from which pages are given back, since the next look is a while away
_DONTNEED = 4  # Linux's MADV_DONTNEED


class LongArrays:
    """Makes the arrays of one video: in memory, and once ``to_files`` is called in temporary files.

    The files have no names, so nothing is left of them when the process ends, however it ends. Linux counts
    what it keeps of a file in memory as the process's own. So a thread gives that back where the process
    would take more than the limit; the file keeps it.

    Args:
        folder: Where the files are; None for /var/tmp, or where there is none the system's folder of
            temporary files, which is often in memory.
        limit: Bytes that the process may take.
    """

    def __init__(self, folder: Path | None = None, limit: int = sys.maxsize) -> None:
        self.folder = _temporary_folder() if folder is None else folder
        self.limit = limit
        self.in_files = False
        self._chunk: np.ndarray | None = None  # (CHUNK_FRAMES, H, W, 3) in a file
        self._used = 0  # frames of it
        self._mapped: list[tuple[weakref.ref[Any], int, int]] = []  # owner, address, bytes
        self._before = 0  # bytes of files in memory before: libraries
        self._watched = False

    def to_files(self) -> None:
        """Make arrays in files from now on."""
        self.in_files = True

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Make a tensor of any content, as ``torch.empty`` does.

        Raises:
            OutputError: If the disk has no room for its file.
        """
        size = math.prod(shape) * dtype.itemsize
        if not self.in_files or size < SMALL:
            return torch.empty(*shape, dtype=dtype)
        return torch.from_numpy(self._file(size)).view(dtype).view(*shape)

    def stacked(self, frames: list[np.ndarray]) -> np.ndarray:
        """Stack frames like ``np.stack``, emptying ``frames``, so that no video is in memory twice."""
        shape = len(frames), *frames[0].shape
        in_file = self.in_files and math.prod(shape) >= SMALL
        result = self._file(math.prod(shape)).reshape(shape) if in_file else np.empty(shape, np.uint8)
        for index in range(len(result)):
            result[index] = frames.pop(0)
        return result

    def held(self, frame: np.ndarray) -> np.ndarray:
        """The frame (H, W, 3) uint8 itself, or a copy in a file."""
        if not self.in_files:
            return frame
        if self._chunk is None or self._used == CHUNK_FRAMES or self._chunk.shape[1:] != frame.shape:
            shape = CHUNK_FRAMES, *frame.shape
            self._chunk, self._used = self._file(math.prod(shape)).reshape(shape), 0
        copy = self._chunk[self._used]
        copy[:] = frame
        self._used += 1
        return copy

    def adopt(self, record: Any) -> None:
        """Look after the memory of a record's tensors too, which lie in a mapped file and are only read."""
        for tensor in _tensors(record):
            storage = tensor.untyped_storage()
            self._watch(weakref.ref(tensor), storage.data_ptr(), storage.nbytes())

    def _file(self, size: int) -> np.ndarray:
        """Make a temporary file of ``size`` bytes, and map it: (size,) uint8."""
        self._chunk = None  # the last frames are in a chunk that only they hold
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder, buffering=0) as file:
                _reserve(file.fileno(), size)
                mapped = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot hold a temporary file of {size / 1e9:.1f} GB ({error.strerror}); "
                "free some space, or raise --max-memory"
            ) from error
        array = np.frombuffer(mapped, np.uint8)
        self._watch(weakref.ref(mapped), array.ctypes.data, size)
        return array

    def _watch(self, owner: weakref.ref[Any], address: int, size: int) -> None:
        """Give pages from ``address`` on back when memory gets short, as long as their owner lives."""
        page = mmap.PAGESIZE
        begin, end = -(-address // page) * page, (address + size) // page * page
        self._mapped = [each for each in self._mapped if each[0]() is not None]
        self._mapped.append((owner, begin, end - begin))
        if not self._watched and sys.platform == "linux":
            self._watched, self._before = True, _resident()[1]
            threading.Thread(target=_keep_below, args=(weakref.ref(self),), daemon=True).start()

    def give_back(self) -> None:
        """Give the pages of all files back, if the process takes more memory than it may."""
        resident, of_files = _resident()
        mapped = of_files - self._before
        if mapped > max(_LEAST, _SHARE * self.limit - (resident - mapped)):
            for owner, address, size in list(self._mapped):
                alive = owner()  # and stays so during the call
                if alive is not None and size > 0:
                    ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _DONTNEED)
                del alive


def _keep_below(reference: weakref.ref[LongArrays]) -> None:
    """Look after the memory of a process until its long arrays are gone."""
    while (arrays := reference()) is not None:
        with suppress(OSError, ValueError):
            arrays.give_back()
        del arrays
        time.sleep(_EVERY_S)


def _resident() -> tuple[int, int]:
    """Bytes of the process that are in memory, and how many of them are of files."""
    counts = Path("/proc/self/statm").read_text().split()
    return int(counts[1]) * mmap.PAGESIZE, int(counts[2]) * mmap.PAGESIZE


def _reserve(descriptor: int, size: int) -> None:
    """Make a file as long as it will be, and reserve its place on the disk: a mapped write cannot fail."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _tensors(record: Any) -> Iterator[Tensor]:
    if isinstance(record, Tensor):
        yield record
    elif isinstance(record, Mapping):
        for value in record.values():
            yield from _tensors(value)
    elif isinstance(record, list | tuple):
        for value in record:
            yield from _tensors(value)


def _temporary_folder() -> Path:
    lasting = Path("/var/tmp")
    return lasting if os.access(lasting, os.W_OK) else Path(tempfile.gettempdir())
