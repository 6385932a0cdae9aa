"""Whether the bytes of a video file end where its format lets a file end.

FFmpeg reads a file that was cut short up to the cut, and most often says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_OGG_HEADER = 27  # bytes of an Ogg page (RFC 3533) before its table of segments
_LONGEST_OGG_PAGE = _OGG_HEADER + 255 + 255 * 255
_TS_PACKETS = (188, 192, 204)  # plain, with a time before (m2ts), with a checksum after
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def ends_too_early(path: Path, kind: str, last_byte: int | None) -> bool:
    """Whether a file must have been longer once, as far as its format tells.

    Args:
        path: The file.
        kind: FFmpeg's name of its format, such as ``matroska,webm``.
        last_byte: Where the last packet ended that was read, None if the demuxer does not say.
    """
    if kind in ("yuv4mpegpipe", "dv"):  # nothing but frames of one size; FFmpeg drops a part of one
        return last_byte != path.stat().st_size
    check = _CHECKS.get(kind)
    if check is None:
        return False
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def _cut_matroska(file: BinaryIO, size: int) -> bool:
    """Whether the file is shorter than its Segment element (RFC 8794, RFC 9559)."""
    head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4
    if at < 4:
        return False
    length = 9 - head[at].bit_length()  # leading zero bits give the bytes of the size
    unknown = (1 << 7 * length) - 1
    stated = int.from_bytes(head[at : at + length]) & unknown
    return stated != unknown and at + length + stated > size


def _cut_asf(file: BinaryIO, size: int) -> bool:
    """Whether the file is shorter than its File Properties say (wmv, asf)."""
    head = file.read(2**16)
    at = head.find(_ASF_FILE_PROPERTIES)
    stated = head[at + 40 : at + 48]
    broadcast = head[at + 88 : at + 89] == b"\x01"  # recorded while the length was not known
    return at >= 0 and not broadcast and int.from_bytes(stated, "little") > size


def _cut_gif(file: BinaryIO, size: int) -> bool:
    """Whether the blocks of a GIF (GIF89a) do not lead to its trailer."""

    def colours(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    def skip_blocks() -> None:
        while (length := file.read(1)) not in (b"\0", b""):
            file.seek(length[0], os.SEEK_CUR)

    header = file.read(13)
    file.seek(colours(header[10]), os.SEEK_CUR)
    while file.tell() < size:
        kind = file.read(1)
        if kind == b"\x3b":
            return False
        if kind == b"\x21":  # an extension: its label, then its blocks
            file.seek(1, os.SEEK_CUR)
        elif kind == b"\x2c":  # a picture: its place, colours and code size, then its blocks
            place = file.read(9)
            file.seek(colours(place[8]) + 1 if len(place) == 9 else 0, os.SEEK_CUR)
        else:
            return True
        skip_blocks()
    return True


def _cut_ogg(file: BinaryIO, size: int) -> bool:
    """Whether the last page is not whole, or is not the last of its stream."""
    file.seek(max(0, size - 2 * _LONGEST_OGG_PAGE))
    tail = file.read()
    at = tail.rfind(b"OggS")
    header = tail[at : at + _OGG_HEADER]
    if at < 0 or len(header) < _OGG_HEADER:
        return True
    table = tail[at + _OGG_HEADER : at + _OGG_HEADER + header[26]]
    whole = len(table) == header[26] and at + _OGG_HEADER + len(table) + sum(table) <= len(tail)
    return not whole or not header[5] & 4


def _cut_ts(file: BinaryIO, size: int) -> bool:
    """Whether a transport stream ends inside a packet."""
    head = file.read(16 * max(_TS_PACKETS))
    for length in _TS_PACKETS:
        for begin in range(length):
            if set(head[begin::length]) == {0x47}:  # every packet begins with this byte
                before = 4 if length == 192 else 0
                return (size - begin + before) % length != 0
    return False


_CHECKS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "matroska,webm": _cut_matroska,
    "asf": _cut_asf,
    "gif": _cut_gif,
    "ogg": _cut_ogg,
    "mpegts": _cut_ts,
}
