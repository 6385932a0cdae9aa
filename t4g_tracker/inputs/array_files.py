"""Reading arrays from npy and npz files. What a header claims is checked before memory is taken for it."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from t4g_tracker.errors import QueryError

_NPY, _ZIP = b"\x93NUMPY", b"PK"

DAMAGED_ARRAYS = (  # raised by NumPy on a damaged .npy or .npz
    OSError,
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    AttributeError,
    IndexError,
    MemoryError,  # a header claims more than there is
    OverflowError,
    RuntimeError,  # an encrypted or unknown kind of zip
    SyntaxError,  # in a header, which is Python
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class ArrayHeader:
    """What an array is, without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def byte_count(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class ArrayFile:
    """The arrays of an open npz file, or the one array of an npy file, which is called ``""`` here.

    Args:
        file: The file, open for reading bytes. The content decides which kind it is.
        most_bytes: Larger arrays are not read.

    Raises:
        QueryError: Here and in the methods, if the file is damaged or of another kind, or an array is
            pickled or larger than ``most_bytes``. The message does not begin with the file's name.
    """

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._file, self._most_bytes = file, most_bytes
        self._members: dict[str, zipfile.ZipInfo] = {}
        start = file.read(len(_NPY))
        file.seek(0)
        if start == _NPY:
            self.names = [""]
            return
        if not start.startswith(_ZIP):
            raise _damaged()
        try:
            self._zip = zipfile.ZipFile(file)
            entries = self._zip.infolist()
        except DAMAGED_ARRAYS as error:
            raise _damaged() from error
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in self._members:
                raise QueryError(f"holds the array {name} twice; write the file again")
            self._members[name] = entry
        self.names = list(self._members)

    def header(self, name: str) -> ArrayHeader:
        """Read shape and type of an array, and check that the file holds as many bytes as they say."""
        try:
            if not name:
                return self._checked(name, self._file, self._file.seek(0, io.SEEK_END))
            entry = self._members[name]
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise QueryError(f"{name} is compressed as numpy never does; write it by numpy.savez")
            with self._zip.open(entry) as member:
                return self._checked(name, member, entry.file_size)
        except DAMAGED_ARRAYS as error:
            raise _damaged(name) from error

    def read(self, name: str) -> np.ndarray:
        """Read an array; its header is checked first."""
        megabytes, most = self.header(name).byte_count / 1e6, self._most_bytes / 1e6
        if megabytes > most:
            raise QueryError(
                f"{_called(name)}{megabytes:.0f} MB, more than the {most:.0f} MB that are read; "
                "give fewer points or frames"
            )
        try:
            if name:
                content = io.BytesIO(self._zip.read(self._members[name]))  # checks the CRC
                return npy.read_array(content, allow_pickle=False)
            self._file.seek(0)
            return npy.read_array(self._file, allow_pickle=False)
        except DAMAGED_ARRAYS as error:
            raise _damaged(name) from error

    def _checked(self, name: str, file: Any, file_size: int) -> ArrayHeader:
        """Read the header at the start of ``file``, which has ``file_size`` bytes."""
        if file.seekable():
            file.seek(0)
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        header = ArrayHeader(shape, dtype)
        if dtype.hasobject:
            raise QueryError(
                f"{_called(name)}pickled objects, which are refused since they can run code; "
                "save plain numbers and text"
            )
        if min(shape, default=0) < 0 or file_size - file.tell() != header.byte_count:
            raise _damaged(name)
        return header


def _called(name: str) -> str:
    return f"{name} holds " if name else "holds "


def _damaged(name: str = "") -> QueryError:
    what = f"its array {name} is" if name else "is"
    return QueryError(
        f"{what} not readable as numpy's (cut short, damaged or of another kind); "
        "save plain numbers and text by numpy.save or numpy.savez"
    )
