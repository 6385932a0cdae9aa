"""What is measured: a base case, and cases that differ from it in one factor each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run of the tracker."""

    frames: int = 50
    points: int = 100  # spread over the first frame
    size: Size = (480, 832)  # (H, W) of the video
    channels: int = 0  # of patch features; 0: the default extractor
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Tells cases apart, in files as in tables."""
        features = f"{self.channels} channels" if self.channels else "default features"
        height, width = self.size
        return f"{self.frames} frames, {self.points} points, {height}x{width}, {features}, {self.device}"

    def facts(self) -> dict[str, Any]:
        return asdict(self)


FACTORS: dict[str, tuple[Any, ...]] = {
    "frames": (25, 50, 100, 200, 400),
    "points": (10, 100, 1000, 10000),
    "channels": (64, 128, 640),
    "size": ((320, 576), (480, 832)),
}
QUICK: dict[str, tuple[Any, ...]] = {
    "frames": (10, 20, 40),
    "points": (10, 100, 1000),
    "channels": (64,),
    "size": ((320, 576),),
}
QUICK_BASE = Case(frames=10, size=(320, 576))


def cases_of(
    base: Case, factors: Mapping[str, Sequence[Any]], devices: Sequence[str]
) -> dict[str, list[Case]]:
    """List the cases of each factor, for each device: one factor at a time differs from the base case.

    Args:
        base: Its own value of a factor is measured with the others.
        factors: Values of frames, points, channels and size.
        devices: Names as for ``--device``; the first is named first.

    Returns:
        Cases by factor, ascending. The base case is in several of them, and measured once.
    """
    found: dict[str, list[Case]] = {}
    for name, values in factors.items():
        found[name] = [
            replace(base, **{name: value}, device=device) for device in devices for value in sorted(values)
        ]
    return found


def distinct(cases: Mapping[str, Sequence[Case]]) -> list[Case]:
    """Every case once, short ones first, so that a fault shows early."""
    every = {case: None for group in cases.values() for case in group}
    return sorted(
        every, key=lambda case: (case.frames * case.size[0] * case.size[1], case.points, case.channels)
    )
