"""Pickles of arrays from untrusted sources: nothing in them is run, and large contents stay on disk.

Unpickling calls any function that the file names. Here a file may name only what arrays and plain
containers need; anything else is refused by its name. Arrays and long byte strings are not read:
only their offsets in the file are stored, so a data set of any size takes little memory, and one
clip at a time is read from it.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from t4g_tracker.errors import DatasetError, one_line

SMALL_BYTES = 4096  # shorter byte strings are read at once
ARRAY = "numpy.ndarray"  # stands for the class, which a pickle passes to _reconstruct and may not call
PLAIN_KINDS = "biufcSUO"  # numpy's codes of truth values, numbers, bytes, text, and objects


@dataclass(frozen=True)
class StoredBytes:
    """A byte string inside a pickle file, read on demand."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


class StoredDtype:
    """The type of an array's elements: a plain one, built here and not by the file.

    numpy's own dtype accepts any state from a pickle, even one that makes it read numbers as addresses.
    """

    def __init__(self, code: Any = "u1", align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str):
            raise pickle.UnpicklingError("the type of an array is not a text")
        self.plain = np.dtype(code)
        if self.plain.kind not in PLAIN_KINDS or self.plain.fields or self.plain.subdtype:
            raise pickle.UnpicklingError(f"arrays of {code} are not expected")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Set the byte order; everything else of a plain type follows from its code."""
        order, structured = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in structured):
            raise pickle.UnpicklingError("arrays of structures are not expected")
        if order in ("<", ">"):
            self.plain = self.plain.newbyteorder(order)


@dataclass
class StoredArray:
    """A numpy array inside a pickle file, read on demand."""

    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    columns_first: bool = False  # as Fortran stores arrays
    content: bytes | StoredBytes | list[Any] = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, columns_first, content = state
        self._fill(shape, dtype, bool(columns_first), content)

    def _fill(self, shape: Any, dtype: Any, columns_first: bool, content: Any) -> None:
        """Set the array's state, after checking that type, shape and content fit each other."""
        expected = list if isinstance(dtype, StoredDtype) and dtype.plain.hasobject else bytes | StoredBytes
        if not isinstance(dtype, StoredDtype) or not isinstance(content, expected):
            raise pickle.UnpicklingError("the content of an array does not fit its type")
        if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError("an array has an impossible shape")
        length = len(content) if isinstance(content, bytes | list) else content.length
        if length != math.prod(shape) * (1 if isinstance(content, list) else dtype.plain.itemsize):
            raise pickle.UnpicklingError(f"an array of shape {shape} has {length} bytes or items")
        self.shape, self.dtype, self.columns_first, self.content = shape, dtype.plain, columns_first, content

    def read(self) -> np.ndarray:
        """Read the array; an array of objects holds them as they are in the file."""
        order: Any = "F" if self.columns_first else "C"
        if isinstance(self.content, list):
            objects = np.empty(len(self.content), dtype=object)
            objects[:] = self.content
            return objects.reshape(self.shape, order=order)
        data = self.content.read() if isinstance(self.content, StoredBytes) else self.content
        return np.frombuffer(data, self.dtype).reshape(self.shape, order=order)


def open_pickle(path: Path) -> Any:
    """Read the object in a pickle file, with its arrays as ``StoredArray``.

    Args:
        path: A pickle of any protocol, of dicts, lists, tuples, sets, numbers, text, bytes and arrays.

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
        raise DatasetError(f"{path}: is not a whole pickle ({_reason(error)}); download it again") from error


def _reason(error: Exception) -> str:
    """Describe what is wrong with a pickle; for an unknown opcode, the unpickler gives only its number."""
    if isinstance(error, KeyError):
        return "it holds bytes that a pickle does not"
    return one_line(error) or type(error).__name__


def _empty_array(kind: object, shape: object, code: object) -> StoredArray:
    """Stands in for ``numpy.core.multiarray._reconstruct``; the content follows."""
    return StoredArray()


def _array_of(content: Any, dtype: Any, shape: Any, order: Any) -> StoredArray:
    """Stands in for ``numpy.core.numeric._frombuffer``, which protocol 5 uses."""
    array = StoredArray()
    array._fill(shape, dtype, order == "F", content)
    return array


def _number_of(dtype: Any, content: Any = b"") -> Any:
    """Stands in for ``numpy.core.multiarray.scalar``."""
    array = StoredArray()
    array._fill((), dtype, False, content)
    return array.read()[()]


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """Stands in for ``_codecs.encode``, with which protocol 2 stores bytes."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding} are not expected")
    return text.encode("latin1")


def _bytes_of(content: Any = b"") -> Any:
    """Stands in for ``bytes`` and ``bytearray``, which a large number would make fill the memory."""
    if not isinstance(content, bytes | StoredBytes):
        raise pickle.UnpicklingError(f"bytes are made from a {type(content).__name__}")
    return content


def _plain(module: str, name: str) -> Any | None:
    """The stand-in for a name that a pickle of arrays may use; None for all other names."""
    if module.startswith("numpy._core."):
        module = "numpy.core." + module.removeprefix("numpy._core.")
    allowed: dict[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy.core.multiarray", "scalar"): _number_of,
        ("numpy.core.numeric", "_frombuffer"): _array_of,
        ("numpy", "ndarray"): ARRAY,
        ("numpy", "dtype"): StoredDtype,
        ("_codecs", "encode"): _encoded,
        ("collections", "OrderedDict"): OrderedDict,
        ("builtins", "set"): set,
        ("builtins", "frozenset"): frozenset,
        ("builtins", "bytes"): _bytes_of,
        ("builtins", "bytearray"): _bytes_of,
    }
    return allowed.get(("builtins" if module == "__builtin__" else module, name))


class _Reader(pickle._Unpickler):  # type: ignore[misc]  # written in Python: its opcodes can be replaced
    """An unpickler that knows only arrays and plain containers, and skips long contents."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]
    append: Any  # attributes of the base class that its stub lacks
    read: Any
    stack: Any
    _unframer: Any

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self._file, self._path = file, path
        self._bytes_in_file = path.stat().st_size
        self._frame_start = 0

    def find_class(self, module: str, name: str) -> Any:
        known = _plain(module, name)
        if known is None:
            raise DatasetError(
                f"{self._path}: names {module}.{name}, which a data set of arrays does not need and which "
                "could run code; nothing was run. Download the file from its publisher"
            )
        return known

    def persistent_load(self, name: object) -> Any:
        raise DatasetError(f"{self._path}: refers to objects outside itself ({name}); nothing was run")

    def _push_bytes(self, length: int) -> None:
        """Push a byte string, or the offset of a long one, inside a frame as well as between frames."""
        if length < SMALL_BYTES:
            self.append(bytes(self.read(length)))
            return
        frame = self._unframer.current_frame
        framed = frame is not None and frame.tell() < len(frame.getbuffer())
        offset = self._frame_start + frame.tell() if framed else self._file.tell()
        if offset + length > self._bytes_in_file:
            raise EOFError("it ends too early")
        (frame.seek if framed else self._file.seek)(offset + length - (self._frame_start if framed else 0))
        self.append(StoredBytes(self._path, offset, length))

    def _load_bytes_4(self) -> None:
        self._push_bytes(struct.unpack("<I", self.read(4))[0])

    def _load_bytes_8(self) -> None:
        self._push_bytes(struct.unpack("<Q", self.read(8))[0])

    def _load_frame(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        self._frame_start = self._file.tell()
        self._unframer.load_frame(length)

    def _load_build(self) -> None:
        """Set the state of an array or its type; a file may set no other state."""
        state = self.stack.pop()
        built = self.stack[-1]
        if not isinstance(built, StoredArray | StoredDtype) or not isinstance(state, tuple):
            raise pickle.UnpicklingError(f"a file may not set the state of a {type(built).__name__}")
        built.__setstate__(state)

    dispatch[pickle.BINBYTES[0]] = _load_bytes_4
    dispatch[pickle.BINBYTES8[0]] = _load_bytes_8
    dispatch[pickle.BYTEARRAY8[0]] = _load_bytes_8
    dispatch[pickle.FRAME[0]] = _load_frame
    dispatch[pickle.BUILD[0]] = _load_build
