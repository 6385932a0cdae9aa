"""Whether a video fits into memory: what it needs, what the machine leaves, and what goes into files."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil

from t4g_tracker.coordinates import Size
from t4g_tracker.errors import VideoError, warn
from t4g_tracker.limits import Limits, check_limits
from t4g_tracker.storage.long_arrays import LongArrays

_CLOSE = 0.8  # share of the free memory from which a video is told to be large
_FIXED = 1.2e9  # bytes that a run takes for a video of any length: libraries, models, buffers

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """How much memory a run may take."""

    # 10^9 bytes, beyond which frames, flow and features are held in files; 0: four fifths of what is free
    max_gb: float = 0.0

    LIMITS: ClassVar[Limits] = {"max_gb": (0, 1_000_000)}

    def __post_init__(self) -> None:
        check_limits(self)


def long_arrays(config: MemoryConfig, folder: Path | None) -> LongArrays:
    """Make the holder of a video's arrays, which uses files in ``folder`` if they do not fit into memory.

    Args:
        config: How much memory there is.
        folder: On a disk, not in memory; None for the system's folder of temporary files.
    """
    if config.max_gb:
        return LongArrays(folder, int(config.max_gb * 1e9))
    return LongArrays(folder, psutil.Process().memory_info().rss + int(_CLOSE * free_memory()))


def frames_bytes(original: Size) -> int:
    """Bytes of one frame of a video that is read and no more."""
    return 3 * original[0] * original[1]


def free_memory() -> int:
    """Bytes that this process can still take: the least that the machine, groups and limits leave."""
    machine = psutil.virtual_memory().available + psutil.swap_memory().free
    return max(0, min([machine, *_left_by_limits(), *left_by_groups()]))


def check_memory(
    source: str,
    frames: int,
    size: Size,
    frame_bytes: int,
    held: int = 0,
    only_refuse: bool = False,
    arrays: LongArrays | None = None,
) -> None:
    """Refuse a video that needs more memory than is free, and warn of one that needs nearly as much.

    With ``arrays``, put its frames, flow and features into files instead.

    Args:
        source: The video, begins the message.
        frames: How many are to be read.
        size: Their (H, W).
        frame_bytes: What the work on the video takes for each of them.
        held: Bytes of it that are taken already.
        only_refuse: Do not warn.
        arrays: Where they are held; None for memory, whatever its size.

    Raises:
        VideoError: If it needs more, or the disk has no room for the files.
    """
    if arrays is not None:
        _put_into_files(arrays, source, frames, size, frame_bytes, held)
        return
    need, free = frames * frame_bytes - held, free_memory()
    if need <= _CLOSE * free:
        return
    fitting = int((_CLOSE * free + held) // frame_bytes)
    what = f"{frames} frames of {size[1]}x{size[0]} need about {_gigabytes(need)} of memory"
    if need > free:
        raise VideoError(f"{source}: {what}, but {_gigabytes(free)} are free; {_smaller(fitting)}")
    if not only_refuse:
        warn(f"{source}: {what}, and {_gigabytes(free)} are free; if it does not fit, {_smaller(fitting)}")


def _put_into_files(
    arrays: LongArrays, source: str, frames: int, size: Size, frame_bytes: int, held: int
) -> None:
    """Let ``arrays`` be in files if a video needs more memory than a run may take, or than is free."""
    need = frames * frame_bytes
    if arrays.in_files or (need + _FIXED <= arrays.limit and need - held <= _CLOSE * free_memory()):
        return
    arrays.folder.mkdir(parents=True, exist_ok=True)
    room = shutil.disk_usage(arrays.folder).free
    what = f"{frames} frames of {size[1]}x{size[0]} need about {_gigabytes(need)} of memory"
    if need > room:
        raise VideoError(
            f"{source}: {what}, more than there is, and {_gigabytes(room)} are free for files instead in "
            f"{arrays.folder}; free some space, or {_smaller(int(room // frame_bytes))}"
        )
    log.info("%s; frames, flow and features are held in files in %s", what, arrays.folder)
    arrays.to_files()


def out_of_memory(source: str) -> VideoError:
    """Say that memory ran out while a video was read."""
    return VideoError(f"{source}: memory ran out while it was read; {_smaller(0)}")


def _smaller(fitting: int) -> str:
    few = f"--first-frames {fitting}" if fitting >= 2 else "--first-frames"
    return f"track fewer with {few} or --frames A-B, or make the video smaller"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _left_by_limits() -> Iterator[int]:
    """What the limits of the process leave (ulimit -v, ulimit -d)."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    used = psutil.Process().memory_info()
    for limit, taken in ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", 0))):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            yield soft - taken


def left_by_groups(
    process: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """What the memory limits of the process's control group, of both versions, and of those around it leave.

    A file of the disk that a group holds in memory counts as free: the system drops it when it must.

    Args:
        process: Names the group of the process.
        groups: Where the groups are mounted.
    """
    try:
        lines = process.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, names = groups, ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            root, names = groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        folder = root / path.strip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):  # in a container, path may name a group outside of it
                yield from _left_by_group(group, *names)


def _left_by_group(group: Path, limit: str, usage: str, prefix: str) -> Iterator[int]:
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        counts = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # not this group's, or "max": no limit
        return
    yield most - used + sum(int(counts.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
