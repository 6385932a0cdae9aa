"""Hypothesis strategies that damage files of numpy: their bytes, headers, members or arrays."""

from __future__ import annotations

import io
import warnings
import zipfile

import numpy as np
from fuzz_bytes import damaged, shares
from fuzz_texts import TOKEN, word_mutations
from hypothesis import strategies as st

DTYPES = (
    "<f4",
    ">f4",
    "<f8",
    "<f2",
    "longdouble",
    "<c8",
    "<i8",
    ">i2",
    "u1",
    "?",
    "S5",
    "U5",
    "O",
    "M8[s]",
    "m8[s]",
)
SHAPES = (
    (2, 3),
    (0, 3),
    (3,),
    (),
    (3, 2),
    (2, 4),
    (1, 2, 3),
    (2, 3, 0),
    (2, 5, 2),
    (2, 5),
    (2,),
    (70_000, 3),
    (2, 6, 2),
)
FILLS = (0, 1, 2, 5.5, -1, 200, 1e30, np.nan, np.inf)


def _array(dtype, shape, fill, order) -> np.ndarray:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return np.full(shape, fill).astype(dtype, order=order)
        except (ValueError, OverflowError):
            return np.zeros(shape, dtype, order)


odd_arrays = st.builds(
    _array,
    st.sampled_from(DTYPES),
    st.sampled_from(SHAPES),
    st.sampled_from(FILLS),
    st.sampled_from(("C", "F")),
)
headers = st.lists(word_mutations, min_size=1, max_size=2)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _reheadered(data: bytes, mutations, truthful: bool) -> bytes:
    """An .npy whose header, a text, is changed; its length is put right or left as it was."""
    length = int.from_bytes(data[8:10], "little")
    tokens = TOKEN.findall(data[10 : 10 + length].decode("latin-1"))
    for mutation in mutations:
        tokens = mutation(tokens)
    header = "".join(tokens).encode("utf-8", errors="replace")
    said = min(len(header) if truthful else length, 2**16 - 1)
    return data[:8] + said.to_bytes(2, "little") + header + data[10 + length :]


@st.composite
def changed_array(draw, array: np.ndarray) -> np.ndarray:
    """The array with another value at one place, or of another type, or another array altogether."""
    if draw(st.booleans()):
        return draw(odd_arrays)
    changed = array.copy()
    if changed.dtype.kind in "fiu" and changed.size:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            changed.flat[draw(shares) * changed.size >> 16] = np.float64(draw(st.sampled_from(FILLS))).astype(
                changed.dtype
            )
    if draw(st.booleans()):
        changed = _array_as(changed, draw(st.sampled_from(DTYPES)))
    return changed


def _array_as(array: np.ndarray, dtype: str) -> np.ndarray:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return array.astype(dtype)
        except (ValueError, TypeError, OverflowError):
            return array


@st.composite
def npys(draw, array: np.ndarray) -> bytes:
    """An .npy that is changed in its bytes, its header or its array."""
    way = draw(st.sampled_from(("bytes", "header", "array")))
    if way == "bytes":
        return draw(damaged((npy(array),)))
    if way == "header":
        return _reheadered(npy(array), draw(headers), draw(st.booleans()))
    return npy(draw(changed_array(array)))


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def npz(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # two members of one name
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


@st.composite
def npzs(draw, arrays: dict[str, np.ndarray]) -> bytes:
    """An .npz that is changed in its bytes, its members or one of its arrays."""
    members = [(f"{name}.npy", npy(array)) for name, array in arrays.items()]
    at = draw(shares) * len(members) >> 16
    name, content = members[at]
    array = list(arrays.values())[at]
    way = draw(
        st.sampled_from(("bytes", "array", "array", "header", "name", "leave out", "again", "junk", "inside"))
    )
    if way == "array":
        members[at] = name, npy(draw(changed_array(array)))
    elif way == "header":
        members[at] = name, _reheadered(content, draw(headers), draw(st.booleans()))
    elif way == "name":
        members[at] = draw(st.sampled_from((name[:-4], "../../x.npy", "", "a\0.npy", "/etc/x.npy"))), content
    elif way == "leave out":
        del members[at]
    elif way == "again":
        members.append((name, npy(draw(odd_arrays))))
    elif way == "junk":
        members[at] = name, draw(st.binary(max_size=40))
    elif way == "inside":
        members[at] = name, draw(damaged((content,)))
    data = npz(members, draw(st.sampled_from(METHODS)))
    return draw(damaged((data,))) if way == "bytes" else data
