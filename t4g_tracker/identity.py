"""Results on disk are used only by the run that made them; another run is refused by what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t4g_tracker.errors import CacheError

NAMED = 4  # differences that an error names; one changed setting can bring many


def refuse(path: Path, cached: Any, now: Mapping[str, Any], remedy: str) -> None:
    """Refuse what another run has left; nothing happens if it is this run's own.

    Args:
        path: The file or folder, for the message.
        cached: What the other run recorded of itself, as JSON gives it back.
        now: The same of this run; plain JSON values, also in tuples.
        remedy: What the user can do.

    Raises:
        CacheError: Naming what differs, as "trainer.batch=2 and not 4".
    """
    if not isinstance(cached, Mapping):
        raise CacheError(f"{path}: is damaged; {remedy}")
    found = differences(cached, json.loads(json.dumps(now)))
    if found:
        more = [f"{len(found) - NAMED} more"] if len(found) > NAMED else []
        raise CacheError(f"{path}: was made with {', '.join(found[:NAMED] + more)}; {remedy}")


def differences(cached: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What two nested mappings of JSON values differ in, each difference in a few words.

    What one of them lacks differs too: an older version may not have recorded it.
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
