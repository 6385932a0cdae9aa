"""Limits of settings: every number has a lowest and a highest value, and both are allowed.

The highest values are far beyond what is useful. They are there so that a slip of the keyboard is refused
at once, instead of filling the memory after minutes of work.
"""

from __future__ import annotations

import math
import numbers
import typing
from collections.abc import Mapping
from typing import Any

from t4g_tracker.errors import ConfigError, TrackerError, described

Limits = Mapping[str, tuple[float, float]]  # lowest and highest value, by the name of a setting

MOST_ENTRIES = 1000  # of a list
HUGE = 10**9  # steps, clips and other counts that take time, not memory


def check_limits(settings: Any, group: str = "") -> None:
    """Check every number of a dataclass of settings against its class's ``LIMITS``.

    Args:
        settings: Its class has ``LIMITS``, which holds for the entries of a list too.
        group: Dotted name of the settings among all, for messages; empty at the top.

    Raises:
        ConfigError: If one is not a number, not finite, or outside its limits.
    """
    hints = typing.get_type_hints(type(settings))
    for name, (least, most) in settings.LIMITS.items():
        hint, value = hints[name], getattr(settings, name)
        full_name = f"{group}.{name}" if group else name
        if value is None and type(None) in typing.get_args(hint):
            continue
        whole = float not in (hint, *typing.get_args(hint))
        if typing.get_origin(hint) is not tuple:
            check_number(full_name, value, least, most, whole)
            continue
        if not isinstance(value, list | tuple) or len(value) > MOST_ENTRIES:
            raise ConfigError(
                f"{full_name} must be a list of at most {MOST_ENTRIES} numbers, got {described(value)}"
            )
        for index, entry in enumerate(value):
            check_number(f"{full_name}[{index}]", entry, least, most, whole)


def check_number(
    name: str,
    value: Any,
    least: float,
    most: float,
    whole: bool = True,
    error: type[TrackerError] = ConfigError,
    remedy: str = "",
) -> None:
    """Check one number.

    Args:
        name: Begins the message.
        value: Anything.
        least, most: Its limits, both allowed.
        whole: Whether it must be a whole number.
        error: What to raise.
        remedy: Ends the message.

    Raises:
        TrackerError: As ``error``, if it is not a number within the limits.
    """
    kind = numbers.Integral if whole else numbers.Real
    right = isinstance(value, kind) and not isinstance(value, bool)
    if not right or not least <= value <= most:  # NaN is not either
        words = "a whole number from" if whole and not right else "a number from" if not right else "from"
        got = f"got {described(value)}{remedy and f'; {remedy}'}"
        raise error(f"{name} must be {words} {_plain(least)} to {_plain(most)}, {got}")


def _plain(limit: float) -> str:
    """Write a limit briefly."""
    return str(int(limit)) if math.isfinite(limit) and limit == int(limit) else f"{limit:g}"
