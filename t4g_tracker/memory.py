"""Whether a video fits into memory: what it needs, and what the machine leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

from t4g_tracker.coordinates import Size
from t4g_tracker.errors import VideoError, warn

_CLOSE = 0.8  # share of the free memory from which a video is told to be large


def frames_bytes(original: Size) -> int:
    """Bytes of one frame of a video that is read and no more."""
    return 3 * original[0] * original[1]


def free_memory() -> int:
    """Bytes that this process can still take: the least that the machine, groups and limits leave."""
    machine = psutil.virtual_memory().available + psutil.swap_memory().free
    return max(0, min([machine, *_left_by_limits(), *left_by_groups()]))


def check_memory(
    source: str, frames: int, size: Size, frame_bytes: int, held: int = 0, only_refuse: bool = False
) -> None:
    """Refuse a video that needs more memory than is free, and warn of one that needs nearly as much.

    Args:
        source: The video, begins the message.
        frames: How many are to be read.
        size: Their (H, W).
        frame_bytes: What the work on the video takes for each of them.
        held: Bytes of it that are taken already.
        only_refuse: Do not warn.

    Raises:
        VideoError: If it needs more.
    """
    need, free = frames * frame_bytes - held, free_memory()
    if need <= _CLOSE * free:
        return
    fitting = int((_CLOSE * free + held) // frame_bytes)
    what = f"{frames} frames of {size[1]}x{size[0]} need about {_gigabytes(need)} of memory"
    if need > free:
        raise VideoError(f"{source}: {what}, but {_gigabytes(free)} are free; {_smaller(fitting)}")
    if not only_refuse:
        warn(f"{source}: {what}, and {_gigabytes(free)} are free; if it does not fit, {_smaller(fitting)}")


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
