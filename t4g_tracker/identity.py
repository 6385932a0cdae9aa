"""Results on disk resume only in the run that made them; another run is refused, and the difference named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t4g_tracker.errors import CacheError, one_line

NAMED = 4  # most differences that an error names; one changed setting can cause many


def refuse(path: Path, cached: Any, now: Mapping[str, Any], remedy: str) -> None:
    """Raise CacheError if results were made by another run.

    Args:
        path: The file or folder, for the message.
        cached: The record of the run that made them, as read from JSON.
        now: The record of this run; plain JSON values, also in tuples.
        remedy: What the user can do.

    Raises:
        CacheError: Names the differences, such as "trainer.batch=2 and not 4".
    """
    if not isinstance(cached, Mapping):
        raise CacheError(f"{path}: is damaged; {remedy}")
    try:
        differing = differences(cached, json.loads(json.dumps(now)))
    except RecursionError:  # nested as no record is
        raise CacheError(f"{path}: is damaged; {remedy}") from None
    if differing:
        named = [one_line(difference) for difference in differing[:NAMED]]
        more = [f"{len(differing) - NAMED} more"] if len(differing) > NAMED else []
        raise CacheError(f"{path}: was made with {', '.join(named + more)}; {remedy}")


def differences(cached: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List how two nested mappings of JSON values differ, each difference in a few words.

    A value that one of them lacks differs too: an older version may not have recorded it.
    """
    found = []
    for name in sorted(cached.keys() | now.keys()):
        dotted, before, after = f"{prefix}{name}", cached.get(name, _MISSING), now.get(name, _MISSING)
        groups = [{} if value is _MISSING else value for value in (before, after)]
        if all(isinstance(group, Mapping) for group in groups):
            found += differences(groups[0], groups[1], f"{dotted}.")
        elif before is _MISSING:
            found.append(f"no {dotted} (now {after})")
        elif after is _MISSING:
            found.append(f"{dotted}={before} (now none)")
        elif before != after:
            found.append(f"{dotted}={before} and not {after}")
    return found


_MISSING = object()
