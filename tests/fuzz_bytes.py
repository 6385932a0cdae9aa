"""Hypothesis strategies that damage the bytes of a valid file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from hypothesis import strategies as st

Mutation = Callable[[bytes], bytes]

PNG = b"\x89PNG\r\n\x1a\n"
HEADER = 512  # bytes in which most of a file's structure is
NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
BLOCKS = (16, 188, 512, 1024)  # 188: a packet of a transport stream

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
