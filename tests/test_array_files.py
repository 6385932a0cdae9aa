"""Arrays from files: a header is checked before memory is taken for it, and nothing damaged is believed."""

import io
import zipfile

import numpy as np
import pytest

from t4g_tracker.errors import QueryError
from t4g_tracker.inputs.array_files import ArrayFile

MOST_BYTES = 2_000_000


def npy_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz_bytes(members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def npy_with_header(header, content=b"\0" * 24):
    text = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def message_of(data, name):
    with pytest.raises(QueryError) as caught:
        ArrayFile(io.BytesIO(data), MOST_BYTES).read(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.arange(3, dtype=np.longdouble),
        np.array(["nose", "眼"]),
        np.array(24.0),
        np.zeros((0, 3)),
        np.array([""]),
    ],
)
def test_arrays_are_read_as_they_were_saved(array):
    file = io.BytesIO()
    np.savez_compressed(file, a=array)
    for data, name in ((npy_bytes(array), ""), (file.getvalue(), "a")):
        arrays = ArrayFile(io.BytesIO(data), MOST_BYTES)
        assert arrays.names == [name]
        assert arrays.header(name).shape == array.shape
        found = arrays.read(name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3), \"\"\" }",  # TokenError
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3), (}",  # SyntaxError
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }",  # MemoryError
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -3), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }",
        "{'descr': '<f9', 'fortran_order': False, 'shape': (1, 3), }",
        "(" * 90,
        "",
    ],
)
def test_a_header_that_is_damaged_or_claims_what_is_not_there_is_refused(header):
    data = npy_with_header(header)
    assert "is not readable as numpy's" in message_of(data, "")
    assert "its array a is not readable as numpy's" in message_of(npz_bytes([("a.npy", data)]), "a")


def test_a_bomb_is_not_unpacked():
    data = npz_bytes([("a.npy", npy_bytes(np.zeros(MOST_BYTES // 8 + 1)))])
    assert len(data) < 10_000
    assert "a holds 2 MB, more than the 2 MB that are read" in message_of(data, "a")
    arrays = ArrayFile(io.BytesIO(data), MOST_BYTES)
    assert arrays.header("a").shape == (MOST_BYTES // 8 + 1,)  # so that a caller can say more


def test_files_of_other_kinds_are_refused():
    whole = npz_bytes([("a.npy", npy_bytes(np.arange(200.0)))], zipfile.ZIP_STORED)
    flipped = bytearray(whole)
    flipped[400] ^= 1  # in the values
    for data, said in (
        (b"hello", "is not readable as numpy's"),
        (b"", "is not readable as numpy's"),
        (whole[:300], "is not readable as numpy's"),
        (bytes(flipped), "its array a is not readable as numpy's"),  # by the checksum
        (npz_bytes([("a.npy", b"hello")]), "its array a is not readable as numpy's"),
        (npz_bytes([("a.npy", npy_bytes(np.zeros(3)))], zipfile.ZIP_LZMA), "a is compressed as numpy never"),
        (npz_bytes([("a.npy", npy_bytes(np.array([{}], dtype=object)))]), "a holds pickled objects"),
    ):  # fmt: skip
        assert said in message_of(data, "a")
    assert "holds pickled objects" in message_of(npy_bytes(np.array([{}], dtype=object)), "")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_comes_twice_is_refused():
    data = npz_bytes([("a.npy", npy_bytes(np.zeros(3))), ("a.npy", npy_bytes(np.ones(3)))])
    assert "holds the array a twice" in message_of(data, "a")
