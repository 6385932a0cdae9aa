"""Hypothesis strategies that damage a valid file: its bytes, its words, or what it is made of."""

from __future__ import annotations

import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

Mutation = Callable[[bytes], bytes]

PNG = b"\x89PNG\r\n\x1a\n"
HEADER = 512  # bytes in which most of a file's structure is
NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
BLOCKS = (16, 188, 512, 1024)  # 188: a packet of a transport stream

# --- bytes

places = st.tuples(st.booleans(), st.integers(0, 2**16 - 1))  # in the header or anywhere
lengths = st.integers(1, 600)


def _at(data: bytes, place: tuple[bool, int]) -> int:
    """A position in the data."""
    in_header, share = place
    return share * min(len(data), HEADER if in_header else len(data)) >> 16


def _flip(place, mask) -> Mutation:
    def change(data: bytes) -> bytes:
        at = _at(data, place)
        return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :] if data else data

    return change


def _fill(place, length, value) -> Mutation:
    """Overwrite a run of bytes with one value."""

    def change(data: bytes) -> bytes:
        at = _at(data, place)
        return data[:at] + bytes([value]) * min(length, len(data) - at) + data[at + length :]

    return change


def _cut(place, length) -> Mutation:
    return lambda data: data[: _at(data, place)] + data[_at(data, place) + length :]


def _end(place) -> Mutation:
    return lambda data: data[: _at(data, (False, place[1]))]


def _insert(place, more) -> Mutation:
    return lambda data: data[: _at(data, place)] + more + data[_at(data, place) :]


def _repeat(place, length) -> Mutation:
    return lambda data: data[: _at(data, place) + length] + data[_at(data, place) :]


def _splice(place, source, length) -> Mutation:
    """Overwrite a run of bytes with another run of the same file."""

    def change(data: bytes) -> bytes:
        at, other = _at(data, place), _at(data, source)
        part = data[other : other + length]
        return data[:at] + part + data[at + len(part) :]

    return change


def _number(place, value, width, order) -> Mutation:
    """Overwrite a number, as headers hold them."""

    def change(data: bytes) -> bytes:
        at = _at(data, place)
        part = (value & (1 << 8 * width) - 1).to_bytes(width, order)
        return data[:at] + part + data[at + width :]

    return change


def _block(size, share, kind) -> Mutation:
    """Leave out, repeat or exchange one of the blocks of equal size that a file is cut into."""

    def change(data: bytes) -> bytes:
        blocks = [data[at : at + size] for at in range(0, len(data), size)]
        at = share * len(blocks) >> 16
        if kind == "leave out":
            del blocks[at : at + 1]
        elif kind == "repeat":
            blocks[at:at] = blocks[at : at + 1] * 3
        elif blocks:
            blocks[at], blocks[-1] = blocks[-1], blocks[at]
        return b"".join(blocks)

    return change


def _chunk(share, place, value, width) -> Mutation:
    """Overwrite a number in a chunk of a PNG, and make its checksum right again."""

    def change(data: bytes) -> bytes:
        chunks = _chunks(data)
        if not chunks:
            return data
        at = share * len(chunks) >> 16
        kind, content = chunks[at]
        chunks[at] = kind, _number((False, place), value, width, "big")(content)[: len(content)]
        return PNG + b"".join(
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in chunks
        )

    return change


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of every chunk of a PNG, as far as it is one."""
    chunks, at = [], len(PNG)
    while data.startswith(PNG) and at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if at + 12 + length > len(data):
            break
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


shares = st.integers(0, 2**16 - 1)
byte_mutations = st.one_of(
    st.builds(_flip, places, st.integers(1, 255)),
    st.builds(_fill, places, lengths, st.sampled_from((0, 255, 0x20, 0x55))),
    st.builds(_cut, places, lengths),
    st.builds(_end, places),
    st.builds(_insert, places, st.binary(min_size=1, max_size=40)),
    st.builds(_repeat, places, lengths),
    st.builds(_splice, places, places, lengths),
    st.builds(
        _number,
        places,
        st.sampled_from(NUMBERS),
        st.sampled_from((1, 2, 4, 8)),
        st.sampled_from(("big", "little")),
    ),
    st.builds(_block, st.sampled_from(BLOCKS), shares, st.sampled_from(("leave out", "repeat", "exchange"))),
    st.builds(_chunk, shares, shares, st.sampled_from(NUMBERS), st.sampled_from((1, 2, 4))),
)


@st.composite
def damaged(draw, valid: tuple[bytes, ...]) -> bytes:
    """One of the valid files after one to four changes of its bytes."""
    data = draw(st.sampled_from(valid))
    for mutation in draw(st.lists(byte_mutations, min_size=1, max_size=4)):
        data = mutation(data)
    return data


@st.composite
def damaged_png(draw, valid: tuple[bytes, ...]) -> bytes:
    """One of the valid PNGs after one or two changes of its chunks, their checksums right."""
    data = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 2))):
        place = draw(shares)
        data = _chunk(  # often the first, the header
            draw(st.one_of(st.just(0), shares)),
            place,
            draw(st.sampled_from(NUMBERS)),
            draw(st.sampled_from((1, 2, 4))),
        )(data)
    return data


def images(valid: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    png = tuple(data for data in valid if data.startswith(PNG))
    return st.one_of(damaged(valid), damaged_png(png)) if png else damaged(valid)


# --- words

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\w+|\s+|.', re.DOTALL)
WORDS = (
    *(
        "0",
        "1",
        "2",
        "3",
        "7.5",
        "12",
        "30",
        "1.0e1",
        "-0.4",
        "47.4",
        "0.5",
        "-1",
        "1.5",
        "1e308",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        ".nan",
        ".inf",
        "9" * 400,
        "1" * 5000,
    ),
    *("0x10", "1_0", "0100", "1:20", "1e-3", "2020-99-99", "٣", "true", "null", "~", "yes", '""', "''"),
    *(
        '"\\ud800"',
        '"\\u0000"',
        '"=1+1"',
        '"a,b"',
        "'a\nb'",
        '"a"',
        "[]",
        "{}",
        "[[]]",
        "[" * 3000,
        "{" * 3000,
    ),
    *(
        '{"frame": 0,' * 1500,
        "- " * 3000,
        "]",
        "}",
        ",",
        ":",
        ";",
        "\t",
        "\0",
        "\x1b[31m",
        "\N{ZERO WIDTH NO-BREAK SPACE}",
    ),
    *(
        "&a [*a]",
        "*a",
        "!!int abc",
        "!!timestamp x",
        "!!bool maybe",
        "!!binary x",
        "!!python/name:os.system",
        "<<: ",
    ),
    *(
        "? ",
        "|",
        ">",
        "%YAML 9.9",
        "--- ",
        "...",
        "#",
        "@",
        "`",
        "\u2028",
        "\x85",
        "\U0001f600",
        "frame",
        "x",
        "steps",
    ),
)
ENCODINGS = (*["utf-8"] * 10, "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037")


NUMBER = re.compile(r"-?\d")


def _reworded(kind, share, other, count, word) -> Callable[[list[str]], list[str]]:
    """Replace, insert, leave out, repeat or exchange words, or replace a number."""

    def change(tokens: list[str]) -> list[str]:
        at, to = share * len(tokens) >> 16, other * len(tokens) >> 16
        if kind == "number":
            numbers = [index for index, token in enumerate(tokens) if NUMBER.match(token)] or [at]
            at = numbers[share * len(numbers) >> 16]
        if kind in ("number", "replace"):
            return [*tokens[:at], word, *tokens[at + 1 :]]
        if kind == "insert":
            return [*tokens[:at], word, *tokens[at:]]
        if kind == "leave out":
            return tokens[:at] + tokens[at + count :]
        if kind == "repeat":
            return tokens[: at + count] + tokens[at:]
        return [*tokens[:at], *tokens[to : to + count], *tokens[at + 1 :]]

    return change


word_mutations = st.builds(
    _reworded,
    st.sampled_from(("number", "number", "number", "replace", "insert", "leave out", "repeat", "exchange")),
    shares,
    shares,
    st.integers(1, 12),
    st.sampled_from(WORDS),
)


@st.composite
def reworded(draw, valid: tuple[bytes, ...]) -> bytes:
    """A valid text after one to three changes of its words, perhaps in another encoding."""
    tokens = TOKEN.findall(draw(st.sampled_from(valid)).decode())
    for mutation in draw(st.lists(word_mutations, min_size=1, max_size=2)):
        tokens = mutation(tokens)
    text = draw(st.sampled_from(("\n", "\n", "\n", "\r\n", "\r"))).join("".join(tokens).split("\n"))
    return text.encode(draw(st.sampled_from(ENCODINGS)), errors="replace")


def texts(valid: tuple[bytes, ...], document: Any) -> st.SearchStrategy[bytes]:
    """A text that is changed in its bytes, its words, or the document that it holds."""
    return st.one_of(
        damaged(valid), reworded(valid), reworded(valid), documents(document), documents(document)
    )


def tables(valid: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged(valid), reworded(valid), reworded(valid), reworded(valid))


# --- documents of lists and of pairs of names and values

ODD_VALUES = (
    *(None, True, False, 0, 1, -1, 5, 10**9, 10**400, 1.5, 1e308, float("nan"), float("inf"), -0.0),
    *("", "1", "abc", "1e-3", "\ud800", "a\0b", "=1+1", "\n", "x" * 5000, "\u202e", [], [1, 2, 3], [[]], {}),
    *(
        {"x": 1},
        {"": None},
        [None] * 4,
        ["1", "2", "3"],
        [True] * 3,
        {"frame": 1, "x": 9, "y": 9},
        [1, 9.5, 9.5],
    ),
)


def _written(document: Any) -> str:
    """Write a document as JSON, which is YAML too; a tuple of pairs is an object, whose names may repeat."""
    if isinstance(document, tuple):
        return "{" + ", ".join(f"{json.dumps(name)}: {_written(value)}" for name, value in document) + "}"
    if isinstance(document, list):
        return "[" + ", ".join(map(_written, document)) + "]"
    return json.dumps(document)


def _pairs(document: Any) -> Any:
    """A document with its objects as tuples of pairs."""
    if isinstance(document, dict):
        return tuple((name, _pairs(value)) for name, value in document.items())
    return [_pairs(value) for value in document] if isinstance(document, list) else document


@st.composite
def _changed(draw, document: Any) -> Any:
    """Go down to some part of a document; replace it, leave it out, repeat it or rename it."""
    if not isinstance(document, list | tuple) or not document or draw(st.integers(0, 5)) == 0:
        return _pairs(draw(st.sampled_from(ODD_VALUES)))
    parts = list(document)
    at = draw(shares) * len(parts) >> 16
    way = draw(st.sampled_from(("deeper",) * 6 + ("leave out", "repeat", "more", "rename")))
    if way == "leave out":
        del parts[at]
    elif way == "repeat":
        parts.insert(at, parts[at])
    elif isinstance(document, tuple):
        name, value = parts[at]
        if way == "more":
            parts.append((draw(st.sampled_from(("more", "", "Frame", name))), value))
        elif way == "rename":
            parts[at] = draw(st.sampled_from(("x", "y", "name", "framex", "FRAME", "", "1"))), value
        else:
            parts[at] = name, draw(_changed(value))
    else:
        parts[at] = draw(_changed(parts[at]))
    return tuple(parts) if isinstance(document, tuple) else parts


@st.composite
def documents(draw, document: Any) -> bytes:
    """A document after one or two changes, written as JSON."""
    changed = _pairs(document)
    for _ in range(draw(st.integers(1, 2))):
        changed = draw(_changed(changed))
    return _written(changed).encode(draw(st.sampled_from(("utf-8",) * 8 + ("utf-8-sig", "utf-16"))))


# --- arrays

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
