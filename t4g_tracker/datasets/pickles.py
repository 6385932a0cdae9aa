"""Pickles of arrays from strangers: nothing in them is run, and large contents stay on disk.

Unpickling calls whatever functions the file names. Here it may name only what arrays and plain
containers need; anything else is refused by its name. Arrays and long byte strings are
not read but remembered by their place in the file, so that a data set of any size takes
little memory, and one clip at a time is read from it.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from t4g_tracker.errors import DatasetError, one_line

SMALL_BYTES = 4096  # shorter byte strings are read at once


@dataclass(frozen=True)
class StoredBytes:
    """A byte string inside a pickle file, which is read when it is asked for."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass
class StoredArray:
    """A numpy array inside a pickle file, which is read when it is asked for."""

    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    order: str = "C"
    content: Any = b""  # bytes, StoredBytes, or a list of objects

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self.shape, self.dtype, self.content = tuple(shape), np.dtype(dtype), content
        self.order = "F" if fortran else "C"

    def read(self) -> np.ndarray:
        """The array; of an array of objects, the objects as they are in the file."""
        if self.dtype.hasobject:
            objects = np.empty(len(self.content), dtype=object)
            objects[:] = self.content
            return objects.reshape(self.shape, order="F" if self.order == "F" else "C")
        data = self.content.read() if isinstance(self.content, StoredBytes) else bytes(self.content)
        return np.frombuffer(data, self.dtype).reshape(self.shape, order="F" if self.order == "F" else "C")


def open_pickle(path: Path) -> Any:
    """The object that a pickle file holds, its arrays as ``StoredArray``.

    Args:
        path: Written by any protocol, of dicts, lists, tuples, sets, numbers, text, bytes and arrays.

    Raises:
        DatasetError: If the file is missing, damaged, or names anything else.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file, path).load()
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except Exception as error:  # a damaged pickle can go wrong in any way
        raise DatasetError(
            f"{path}: is not a whole pickle ({one_line(error) or type(error).__name__}); fetch it again"
        ) from error


def _empty_array(kind: object, shape: object, code: object) -> StoredArray:
    """In place of ``numpy.core.multiarray._reconstruct``; the content follows."""
    return StoredArray()


def _array_of(content: Any, dtype: Any, shape: Any, order: str) -> StoredArray:
    """In place of ``numpy.core.numeric._frombuffer``, which protocol 5 uses."""
    return StoredArray(tuple(shape), np.dtype(dtype), order, content)


def _number_of(dtype: np.dtype[Any], content: Any = b"") -> Any:
    """In place of ``numpy.core.multiarray.scalar``."""
    if dtype.hasobject or not isinstance(content, bytes):
        raise pickle.UnpicklingError(f"a numpy scalar of {dtype} is not a number")
    return np.frombuffer(content, dtype)[0]


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """In place of ``_codecs.encode``, by which protocol 2 stores bytes."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding} are not expected")
    return text.encode("latin1")


def _bytes_of(content: Any = b"") -> Any:
    """In place of ``bytes`` and ``bytearray``, which would make as many bytes as a number says."""
    if not isinstance(content, bytes | StoredBytes):
        raise pickle.UnpicklingError(f"bytes are made from a {type(content).__name__}")
    return content


def _plain(module: str, name: str) -> Any | None:
    """What a name that a pickle of arrays may use stands for here; None for all others."""
    if module.startswith("numpy._core."):
        module = "numpy.core." + module.removeprefix("numpy._core.")
    allowed: dict[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy.core.multiarray", "scalar"): _number_of,
        ("numpy.core.numeric", "_frombuffer"): _array_of,
        ("numpy", "ndarray"): StoredArray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encoded,
        ("collections", "OrderedDict"): OrderedDict,
        ("builtins", "set"): set,
        ("builtins", "frozenset"): frozenset,
        ("builtins", "bytes"): _bytes_of,
        ("builtins", "bytearray"): _bytes_of,
    }
    return allowed.get(("builtins" if module == "__builtin__" else module, name))


class _Reader(pickle._Unpickler):  # type: ignore[misc]  # the one in Python: its opcodes can be replaced
    """An unpickler that knows arrays and plain containers alone, and skips what is long."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]
    append: Any  # what the base class has, which its stub does not say
    read: Any
    _unframer: Any

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self._file, self._path = file, path
        self._bytes_in_file = path.stat().st_size

    def find_class(self, module: str, name: str) -> Any:
        known = _plain(module, name)
        if known is None:
            raise DatasetError(
                f"{self._path}: names {module}.{name}, which a data set of arrays does not need, and "
                "opening it could run it; nothing was run. Get the file from its publisher"
            )
        return known

    def persistent_load(self, name: object) -> Any:
        raise DatasetError(f"{self._path}: refers to objects outside itself ({name}); nothing was run")

    def _push_bytes(self, length: int) -> None:
        frame = self._unframer.current_frame  # small things come in frames, which are in memory already
        framed = frame is not None and frame.tell() < len(frame.getbuffer())
        if framed or length < SMALL_BYTES:
            self.append(bytes(self.read(length)))
            return
        offset = self._file.tell()
        if offset + length > self._bytes_in_file:
            raise EOFError("it ends too early")
        self._file.seek(offset + length)
        self.append(StoredBytes(self._path, offset, length))

    def _load_bytes_4(self) -> None:
        self._push_bytes(struct.unpack("<I", self.read(4))[0])

    def _load_bytes_8(self) -> None:
        self._push_bytes(struct.unpack("<Q", self.read(8))[0])

    dispatch[pickle.BINBYTES[0]] = _load_bytes_4
    dispatch[pickle.BINBYTES8[0]] = _load_bytes_8
    dispatch[pickle.BYTEARRAY8[0]] = _load_bytes_8
