"""Reading settings: YAML and ``--set`` into frozen dataclasses; whatever is not understood is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from t4g_tracker.bundled import CONFIGS
from t4g_tracker.errors import ConfigError, described, shortened, suggestion
from t4g_tracker.settings_yaml import parse_yaml, read_yaml

Settings = TypeVar("Settings")

MOVED = {  # settings of version 0.1 that have been renamed
    "adaptation.held_back": "adaptation.held_out",
    "adaptation.losses.temperature": "matching.temperature",
    "adaptation.losses.window_radius_px": "matching.window_radius_px",
    "tracking.path": "tracking.motion",
    "tracking.temperature": "matching.temperature",
    "tracking.window_radius_px": "matching.window_radius_px",
    "tracking.polish": "tracking.subpixel",
    "tracking.polish_reach_px": "tracking.subpixel_reach_px",
    "tracking.polish_window_px": "tracking.subpixel_window_px",
}
GONE = {  # settings of version 0.1 that have no successor of the same meaning, and what took their place
    "tracking.jump_cost": "matches join flow by their uncertainty, tracking.match_cost",
    "tracking.jump_px": "matches join flow by their uncertainty, tracking.match_cost",
    "tracking.drift_cost": "flow grows uncertain by its cycle error and motion.step_cost",
    "tracking.drift_px": "flow grows uncertain by its cycle error and motion.step_cost",
    "trajectories.direct_pairs": "all pairs of frames over trajectories.direct_gaps get direct flow",
}
UNUSABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, bytes that are not UTF-8
LONGEST_NAME = 255  # bytes of a file's or folder's name on common file systems


def read_settings(
    base: Settings, file: str | Path | None = None, assignments: Sequence[str] = ()
) -> Settings:
    """Read settings from a YAML file, then from single assignments, and check each.

    Args:
        base: The settings to change, ``Config()`` for the defaults.
        file: YAML file of nested settings, or the name of one that comes with the program, such as "fast".
        assignments: In the form of ``--set``: "adaptation.steps=300".

    Raises:
        ConfigError: If a name, a type or a value is wrong; the message names it and the remedy.
    """
    if file is not None:
        base = apply_settings(base, read_yaml(find_config(Path(file))), str(file))
    return apply_settings(base, read_assignments(assignments), "--set")


def find_config(file: Path) -> Path:
    """Find the given file, or else the program's own of that name, with or without its extension.

    Raises:
        ConfigError: If there is neither; the message lists the program's own.
    """
    with contextlib.suppress(OSError):  # such as a name that is too long
        if file.exists():
            return file
    shipped = {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}
    if file.parent in (Path(), Path("configs")) and file.suffix in ("", ".yaml") and file.stem in shipped:
        return shipped[file.stem]
    meant = suggestion(file.stem, shipped, "")
    raise ConfigError(
        f"{shortened(str(file), 200)}: no such file; give a YAML file, or a name that comes with the "
        f"program: {', '.join(shipped)}{meant and f'; {meant}'}"
    )


def read_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse ``["adaptation.steps=2000", ...]`` into nested settings; values are read as YAML.

    Raises:
        ConfigError: If an assignment is not of the form ``stage.setting=value``.
    """
    nested: dict[str, Any] = {}
    for assignment in assignments:
        where = f"--set {shortened(assignment)}:"
        name, equals, value = assignment.partition("=")
        parts = name.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"{where} write stage.setting=value, as in adaptation.steps=2000")
        parsed = parse_yaml(value, where, numbered=False)
        level = nested
        for part in parts[:-1]:
            level = level.setdefault(part, {})
            if not isinstance(level, dict):
                raise ConfigError(
                    f"{where} {part} was given a value before, but is a group of settings; "
                    "give one of the two"
                )
        level[parts[-1]] = parsed
    return nested


def apply_settings(base: Settings, changes: Mapping[str, Any], where: str) -> Settings:
    """Return ``base`` with nested ``changes`` applied, checking every name and type.

    Args:
        base: A frozen dataclass, possibly of further frozen dataclasses.
        changes: Nested mapping of setting names to new values.
        where: File or flag the changes come from, for messages.

    Raises:
        ConfigError: For an unknown name (the nearest is suggested), a value of another
            type, or one that the dataclass itself refuses.
    """
    return _applied(base, changes, where, "", _names(base))


def _applied(base: Any, changes: Mapping[str, Any], where: str, prefix: str, names: list[str]) -> Any:
    """``apply_settings`` to the group of dotted name ``prefix``; ``names`` are those of all settings."""
    hints = typing.get_type_hints(type(base))
    known = {field.name for field in dataclasses.fields(base)}
    updates: dict[str, Any] = {}
    for key, value in changes.items():
        dotted = f"{prefix}{key}"
        if dotted in MOVED:
            raise ConfigError(f"{where}: {dotted} is now called {MOVED[dotted]}; write that")
        if dotted in GONE:
            raise ConfigError(f"{where}: {dotted} is gone; leave it out: {GONE[dotted]}")
        if key not in known:
            raise ConfigError(f"{where}: {_unknown(dotted, value, names)}")
        current = getattr(base, key)
        if not dataclasses.is_dataclass(current):
            updates[key] = _checked(value, hints[key], f"{where}: {dotted}")
        elif isinstance(value, Mapping):
            updates[key] = _applied(current, value, where, f"{dotted}.", names)
        else:
            example = next(name for name in names if name.startswith(f"{dotted}."))
            raise ConfigError(
                f"{where}: {dotted} is a group of settings, got {described(value)}; set one of them, such as "
                f"{example}"
            )
    try:
        return dataclasses.replace(base, **updates)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _names(base: Any, prefix: str = "") -> list[str]:
    """List the dotted names of all settings below ``base``."""
    names = []
    for entry in dataclasses.fields(base):
        value, name = getattr(base, entry.name), f"{prefix}{entry.name}"
        names += _names(value, f"{name}.") if dataclasses.is_dataclass(value) else [name]
    return names


def _unknown(dotted: str, value: Any, names: list[str]) -> str:
    """Say that a setting is unknown, and which of all ``names`` is most like it."""
    while isinstance(value, Mapping) and value:  # of a group, its first setting says most
        key, value = next(iter(value.items()))
        dotted = f"{dotted}.{key}"
    dotted = shortened(dotted)
    same = [name for name in names if name.rpartition(".")[2] == dotted]
    if same:
        return f"{dotted} is not a setting; did you mean {' or '.join(same)}?"
    groups = {name.rpartition(".")[0] for name in names} - {""}
    likeness = {name: _likeness(dotted, name) for name in [*names, *sorted(groups)]}
    best = max(likeness, key=lambda name: likeness[name])
    if likeness[best] >= 0.7:
        return f"{dotted} is not a setting; did you mean {best}?"
    tops = dict.fromkeys(name.partition(".")[0] for name in names)
    return f"{dotted} is not a setting; settings are in {', '.join(tops)}"


def _likeness(wanted: str, name: str) -> float:
    """How alike two dotted names are, 0..1: half by their last parts, half by all of them."""

    def ratio(first: str, second: str) -> float:
        return difflib.SequenceMatcher(None, first, second).ratio()

    return 0.5 * ratio(wanted.rpartition(".")[2], name.rpartition(".")[2]) + 0.5 * ratio(wanted, name)


def _checked(value: Any, hint: Any, name: str) -> Any:
    """Convert ``value`` to the type ``hint``; raise ConfigError with what to write instead."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(arm for arm in typing.get_args(hint) if arm is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        return _checked_choice(value, typing.get_args(hint), name)
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} must be a list, got {described(value)}; write [a, b, ...]")
        return tuple(_checked(entry, item, f"{name}[{index}]") for index, entry in enumerate(value))
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{name} must be true or false, got {described(value)}; {_truth_meant(value)}")
    if hint is int or hint is float:
        return _checked_number(value, hint, name)
    if hint is str:
        return _checked_text(value, name)
    raise TypeError(f"{name}: settings of type {hint} are not supported")


def _checked_choice(value: Any, options: tuple[Any, ...], name: str) -> Any:
    if isinstance(value, str) and value in options:
        return value
    meant = suggestion(value, options, "") if isinstance(value, str) else ""
    raise ConfigError(
        f"{name} must be one of {', '.join(options)}, got {described(value)}{meant and f'; {meant}'}"
    )


def _truth_meant(value: Any) -> str:
    """What to write instead of a value that is not true or false."""
    if str(value).lower() in ("yes", "on", "1", "y", "true"):
        return "write true"
    return "write false" if str(value).lower() in ("no", "off", "0", "n", "false") else "write one of them"


def _checked_number(value: Any, kind: type[int] | type[float], name: str) -> float:
    """Convert ``value`` to a finite number; a text that looks like one is explained."""
    what = "a whole number" if kind is int else "a number"
    if isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return kind(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, got {value}; write {what}")
        if kind is float:
            return value
    meant = ""
    with contextlib.suppress(ValueError, OverflowError, TypeError):
        number = float(value) if isinstance(value, str | float) else math.nan
        meant = repr(int(number)) if number == int(number) and abs(number) < 2**53 else repr(number)
        meant = "" if kind is int and number != int(number) else meant
    raise ConfigError(f"{name} must be {what}, got {described(value)}{f'; write {meant}' if meant else ''}")


def _checked_text(value: Any, name: str) -> str:
    """Check that a text can be the name of a file or model, which all settings of type text are."""
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text, got {described(value)}; put it in quotes")
    if UNUSABLE.search(value):
        raise ConfigError(f"{name} has a character that no name can have, {described(value)}; leave it out")
    if any(len(part.encode()) > LONGEST_NAME for part in value.split("/")) or len(value) > 16 * LONGEST_NAME:
        raise ConfigError(f"{name} is too long for a file's name, {described(value)}; write a shorter one")
    return value
