"""Reading settings: YAML and ``--set`` into frozen dataclasses; whatever is not understood is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from t4g_tracker.bundled import CONFIGS
from t4g_tracker.errors import ConfigError, suggestion

Settings = TypeVar("Settings")

MOVED = {  # settings of version 0.1 that have been renamed
    "adaptation.held_back": "adaptation.held_out",
    "adaptation.losses.temperature": "matching.temperature",
    "adaptation.losses.window_radius_px": "matching.window_radius_px",
    "tracking.temperature": "matching.temperature",
    "tracking.window_radius_px": "matching.window_radius_px",
    "tracking.polish": "tracking.subpixel",
    "tracking.polish_reach_px": "tracking.subpixel_reach_px",
    "tracking.polish_window_px": "tracking.subpixel_window_px",
}


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
        base = apply_settings(base, read_yaml(_find_config(Path(file))), str(file))
    return apply_settings(base, read_assignments(assignments), "--set")


def _find_config(file: Path) -> Path:
    """Find the given file, or else the program's own of that name, with or without its extension."""
    shipped = CONFIGS / file.with_suffix(".yaml").name
    plain = file.parent in (Path(), Path("configs"))
    return shipped if plain and not file.is_file() and shipped.exists() else file


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of nested settings.

    Raises:
        ConfigError: If the file is missing, is not YAML, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give an existing YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file; give a YAML file of settings") from error
    return _parse(text, str(path))


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(
            f"{where}:{line} is not valid YAML ({getattr(error, 'problem', error)}); correct it there"
        ) from error
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ConfigError(f"{where}: must be a mapping of stages to settings, got {type(parsed).__name__}")
    return parsed


def read_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse ``["adaptation.steps=2000", ...]`` into nested settings; values are read as YAML.

    Raises:
        ConfigError: If an assignment is not of the form ``stage.setting=value``.
    """
    nested: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        parts = name.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"--set {assignment}: write stage.setting=value, as in adaptation.steps=2000")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {assignment}: the value is not valid YAML; quote it") from error
        level = nested
        for part in parts[:-1]:
            level = level.setdefault(part, {})
            if not isinstance(level, dict):
                raise ConfigError(
                    f"--set {assignment}: {part} was given a value before, but is a group of settings"
                )
        level[parts[-1]] = parsed
    return nested


def apply_settings(base: Settings, changes: Mapping[str, Any], where: str, prefix: str = "") -> Settings:
    """Return ``base`` with nested ``changes`` applied, checking every name and type.

    Args:
        base: A frozen dataclass, possibly of further frozen dataclasses.
        changes: Nested mapping of setting names to new values.
        where: File or flag the changes come from, for messages.
        prefix: Dotted path of ``base`` within all settings, for messages.

    Raises:
        ConfigError: For an unknown name (the nearest is suggested), a value of another
            type, or one that the dataclass itself refuses.
    """
    hints = typing.get_type_hints(type(base))
    known = {field.name for field in dataclasses.fields(base)}  # type: ignore[arg-type]
    updates: dict[str, Any] = {}
    for key, value in changes.items():
        dotted = f"{prefix}{key}"
        if dotted in MOVED:
            raise ConfigError(f"{where}: {dotted} is now called {MOVED[dotted]}")
        if key not in known:
            hint = _suggested(str(key), base, prefix)
            raise ConfigError(f"{where}: {dotted} is not a setting; {hint}")
        current = getattr(base, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {dotted} is a group of settings, got {_described(value)}")
            updates[key] = apply_settings(current, value, where, f"{dotted}.")
        else:
            updates[key] = _checked(value, hints[key], f"{where}: {dotted}")
    try:
        return dataclasses.replace(base, **updates)  # type: ignore[type-var]
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _suggested(key: str, base: Any, prefix: str) -> str:
    """Suggest the setting nearest to an unknown name: among its neighbours, or anywhere below them."""
    leaves = _leaves(base, prefix)
    here = {name.removeprefix(prefix).partition(".")[0] for name in leaves}
    close = difflib.get_close_matches(key, here, n=1, cutoff=0.75)
    if close:
        return f"did you mean {prefix}{close[0]}?"
    last = {name.rpartition(".")[2]: name for name in reversed(leaves)}
    close = difflib.get_close_matches(key.rpartition(".")[2], last, n=1, cutoff=0.75)
    if close:
        return f"did you mean {last[close[0]]}?"
    return suggestion(key, sorted(here), "settings here are")


def _leaves(base: Any, prefix: str) -> list[str]:
    """List the dotted names of all settings below ``base``."""
    names = []
    for entry in dataclasses.fields(base):
        value = getattr(base, entry.name)
        if dataclasses.is_dataclass(value):
            names += _leaves(value, f"{prefix}{entry.name}.")
        else:
            names.append(f"{prefix}{entry.name}")
    return names


def _checked(value: Any, hint: Any, name: str) -> Any:
    """Convert ``value`` to the type ``hint``; raise ConfigError with what to write instead."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(arm for arm in typing.get_args(hint) if arm is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        options = typing.get_args(hint)
        if value in options:
            return value
        close = difflib.get_close_matches(str(value), [str(option) for option in options], n=1)
        hint_text = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"{name} must be one of {', '.join(map(str, options))}, got {_described(value)}{hint_text}"
        )
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} must be a list, got {_described(value)}; write [a, b, ...]")
        return tuple(_checked(entry, item, f"{name}[{index}]") for index, entry in enumerate(value))
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{name} must be true or false, got {_described(value)}")
    if hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ConfigError(f"{name} must be a whole number, got {_described(value)}")
    if hint is float:
        return _checked_number(value, name)
    if hint is str:
        if isinstance(value, str):
            return value
        raise ConfigError(f"{name} must be text, got {_described(value)}; put it in quotes")
    raise TypeError(f"{name}: settings of type {hint} are not supported")


def _checked_number(value: Any, name: str) -> float:
    """Convert ``value`` to a finite float; a text that YAML does not read as a number is explained."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, got {value}")
        return float(value)
    advice = ""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            advice = f"; write {_as_yaml_float(float(value))}" if math.isfinite(float(value)) else ""
    raise ConfigError(f"{name} must be a number, got {_described(value)}{advice}")


def _as_yaml_float(number: float) -> str:
    """Write a number so that YAML 1.1 reads it as one: it needs the point in 1.0e-3."""
    text = f"{number!r}"
    if "e" in text and "." not in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa}.0e{exponent}"
    if "e" not in text and number != 0 and abs(number) < 1e-2:
        mantissa, exponent = f"{number:e}".split("e")
        return f"{float(mantissa)}e{int(exponent)}"
    return text


def _described(value: Any) -> str:
    return f"the text {value!r}" if isinstance(value, str) else f"{value!r}"


def as_dict(settings: Any) -> dict[str, Any]:
    """Convert nested dataclasses to plain dicts and lists, ready for JSON or YAML."""
    plain = dataclasses.asdict(settings)

    def simple(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: simple(entry) for key, entry in value.items()}
        return list(value) if isinstance(value, tuple) else value

    result: dict[str, Any] = simple(plain)
    return result
