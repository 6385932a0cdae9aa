"""How the bytes of a video file end: where its format lets a file end, or before.

FFmpeg reads a file that was cut short up to the cut, and most often says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import BinaryIO

_OGG_HEADER = 27  # bytes of an Ogg page (RFC 3533) before its table of segments
_LONGEST_OGG_PAGE = _OGG_HEADER + 255 + 255 * 255
_TS_MARK = 0x47  # every packet begins with this byte
_TS_PACKETS = (188, 192, 204)  # plain, with a time before (m2ts), with a checksum after
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


class Ending(Enum):
    """How a file ends."""

    WHOLE = "as its format lets it end, as far as that tells"
    UNTIDY = "between two pictures, but with bytes too many or too few"
    CUT = "before its end: it was longer once"


def ending_of(path: Path, kind: str, last_byte: int | None) -> Ending:
    """Find how a file ends.

    Args:
        path: The file.
        kind: FFmpeg's name of its format, such as ``matroska,webm``.
        last_byte: Where the last packet ended that was read, None if the demuxer does not say.
    """
    if kind in ("yuv4mpegpipe", "dv"):  # nothing but frames of one size; FFmpeg drops a part of one
        return Ending.WHOLE if last_byte == path.stat().st_size else Ending.CUT
    check = _CHECKS.get(kind)
    if check is None:
        return Ending.WHOLE
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def _end_of_matroska(file: BinaryIO, size: int) -> Ending:
    """CUT if the file is shorter than its Segment element (RFC 8794, RFC 9559)."""
    head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4
    if at < 4:
        return Ending.WHOLE
    length = 9 - head[at].bit_length()  # leading zero bits give the bytes of the size
    unknown = (1 << 7 * length) - 1
    stated = int.from_bytes(head[at : at + length]) & unknown
    return Ending.CUT if stated != unknown and at + length + stated > size else Ending.WHOLE


def _end_of_asf(file: BinaryIO, size: int) -> Ending:
    """CUT if the file is shorter than its File Properties say (wmv, asf)."""
    head = file.read(2**16)
    at = head.find(_ASF_FILE_PROPERTIES)
    stated = head[at + 40 : at + 48]
    broadcast = head[at + 88 : at + 89] == b"\x01"  # recorded while the length was not known
    cut = at >= 0 and not broadcast and int.from_bytes(stated, "little") > size
    return Ending.CUT if cut else Ending.WHOLE


def _end_of_gif(file: BinaryIO, size: int) -> Ending:
    """WHOLE if the blocks of a GIF (GIF89a) lead to its trailer, UNTIDY if it alone is missing."""

    def colours(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    def skip_blocks() -> bool:
        """Whether the last block, which is empty, is there."""
        while (length := file.read(1)) not in (b"\0", b""):
            file.seek(length[0], os.SEEK_CUR)
        return length == b"\0"

    header = file.read(13)
    file.seek(colours(header[10]), os.SEEK_CUR)
    while file.tell() < size:
        kind = file.read(1)
        if kind == b"\x3b":
            return Ending.WHOLE
        if kind == b"\x21":  # an extension: its label, then its blocks
            file.seek(1, os.SEEK_CUR)
        elif kind == b"\x2c":  # a picture: its place, colours and code size, then its blocks
            place = file.read(9)
            file.seek(colours(place[8]) + 1 if len(place) == 9 else 0, os.SEEK_CUR)
        else:
            return Ending.CUT if (kind + file.read()).strip(b"\0") else Ending.UNTIDY
        if not skip_blocks():
            return Ending.CUT
    return Ending.UNTIDY


def _end_of_ogg(file: BinaryIO, size: int) -> Ending:
    """CUT within a page or a packet, UNTIDY after a page that is not marked as the last of its stream."""
    file.seek(max(0, size - 2 * _LONGEST_OGG_PAGE))
    tail = file.read()
    at = tail.rfind(b"OggS")
    header = tail[at : at + _OGG_HEADER]
    if at < 0 or len(header) < _OGG_HEADER:
        return Ending.CUT
    table = tail[at + _OGG_HEADER : at + _OGG_HEADER + header[26]]
    whole = len(table) == header[26] and at + _OGG_HEADER + len(table) + sum(table) <= len(tail)
    if not whole or table[-1:] == b"\xff":  # the packet goes on in the next page
        return Ending.CUT
    return Ending.WHOLE if header[5] & 4 else Ending.UNTIDY


def _end_of_ts(file: BinaryIO, size: int) -> Ending:
    """CUT within a packet of a transport stream, UNTIDY after other bytes than packets."""
    head = file.read(16 * max(_TS_PACKETS))
    for length in _TS_PACKETS:
        for begin in range(length):
            if set(head[begin::length]) == {_TS_MARK}:
                before = 4 if length == 192 else 0
                over = (size - begin + before) % length
                file.seek(size - over)
                tail = file.read()
                if not tail:
                    return Ending.WHOLE
                return Ending.CUT if tail[before : before + 1] in (b"", bytes([_TS_MARK])) else Ending.UNTIDY
    return Ending.WHOLE


_CHECKS: dict[str, Callable[[BinaryIO, int], Ending]] = {
    "matroska,webm": _end_of_matroska,
    "asf": _end_of_asf,
    "gif": _end_of_gif,
    "ogg": _end_of_ogg,
    "mpegts": _end_of_ts,
}
