"""The file formats of query points: bytes in, rows out; errors name the place of the mistake."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from t4g_tracker.errors import DAMAGED_ARRAYS, QueryError, suggestion

_FIELDS = ("frame", "x", "y", "name")


@dataclass(frozen=True)
class QueryRow:
    """One query point as read from a file, not yet checked against a video."""

    where: str  # how to find the point in the file, for messages
    frame: float
    x: float  # original pixels
    y: float
    name: str | None


def rows_of_json(data: bytes) -> list[QueryRow]:
    """Parse a JSON list of objects or [frame, x, y], or an object with that list.

    Raises:
        QueryError: If the text is not JSON (line and column are named) or has another form.
    """
    try:
        parsed = json.loads(_text(data))
    except json.JSONDecodeError as error:
        raise QueryError(
            f"line {error.lineno}, column {error.colno}: is not valid JSON ({error.msg}); correct it there"
        ) from error
    except (ValueError, RecursionError) as error:
        raise QueryError(
            "is not valid JSON (too long a number, or too deep); give a list of points"
        ) from error
    if isinstance(parsed, dict):
        _refuse_unknown(parsed, ["queries"], "the top level")
        parsed = parsed.get("queries")
    if not isinstance(parsed, list):
        raise QueryError('must be a list of points, or {"queries": [...]}; give each as frame, x, y')
    rows = []
    for index, item in enumerate(parsed):
        where = f"query point {index}"
        if isinstance(item, list) and len(item) == 3:
            item = dict(zip(_FIELDS, item, strict=False))
        if not isinstance(item, dict):
            raise QueryError(f"{where}: must be an object with frame, x and y, or a list [frame, x, y]")
        rows.append(_row(item, where))
    return rows


def rows_of_csv(data: bytes) -> list[QueryRow]:
    """Parse comma-separated lines; the first is a header if none of its cells is a number.

    Raises:
        QueryError: If a line has too few or too many cells, or one that is not a number.
    """
    lines = _csv_lines(data)
    columns = _take_columns(lines)
    rows = []
    for index, (number, cells) in enumerate(lines):
        if len(cells) != len(columns):
            raise QueryError(
                f"line {number}: has {len(cells)} columns, expected {len(columns)} "
                f"({','.join(columns)}); separate them by commas"
            )
        values: dict[str, Any] = dict(zip(columns, cells, strict=True))
        for column, field in enumerate(columns):
            if field == "name":
                continue
            if not _is_number(values[field]):
                raise QueryError(
                    f"line {number}, column {column + 1} ({field}): must be a number, "
                    f"got the text {values[field]!r}"
                )
            values[field] = float(values[field])
        rows.append(_row(values, f"query point {index} on line {number}"))
    return rows


def rows_of_numpy(data: bytes) -> list[QueryRow]:
    """Parse an npy array (N, 3) of frame, x, y, or the ``queries`` and ``names`` of an npz.

    Raises:
        QueryError: If the data are cut short or pickled, or have another shape or type.
    """
    names: Sequence[str] | None = None
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            array = loaded
        else:
            if "queries" not in loaded.files:
                arrays = ", ".join(loaded.files) or "nothing"
                raise QueryError(
                    f"has no array named queries, it holds {arrays}; save (N, 3) frame, x, y there"
                )
            array = loaded["queries"]
            names = loaded["names"].astype(str).reshape(-1).tolist() if "names" in loaded.files else None
    except DAMAGED_ARRAYS as error:
        raise QueryError(
            "is not a numpy file that can be read (cut short, or pickled, which is refused); "
            "save plain numbers with numpy.save or numpy.savez"
        ) from error
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iuf":
        raise QueryError(
            f"must hold numbers of shape (N, 3), as frame, x, y; got {array.dtype} {array.shape}"
        )
    if names is not None and len(names) != len(array):
        raise QueryError(f"has {len(array)} query points but {len(names)} names; give one each")
    return [
        _row(
            {"frame": frame, "x": x, "y": y, "name": names[index] if names else None}, f"query point {index}"
        )
        for index, (frame, x, y) in enumerate(array.tolist())
    ]


FORMATS: dict[str, Callable[[bytes], list[QueryRow]]] = {
    ".json": rows_of_json,
    ".csv": rows_of_csv,
    ".npy": rows_of_numpy,
    ".npz": rows_of_numpy,
}


def _csv_lines(data: bytes) -> list[tuple[int, list[str]]]:
    """Split lines into stripped cells: (line number, cells) of every line that is not blank."""
    reader = csv.reader(io.StringIO(_text(data), newline=""), strict=True, skipinitialspace=True)
    lines = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                lines.append((reader.line_num, stripped))
    except csv.Error as error:
        raise QueryError(f"line {reader.line_num}: is not valid CSV ({error}); correct it there") from error
    return lines


def _take_columns(lines: list[tuple[int, list[str]]]) -> Sequence[str]:
    """Find the field of each column, and remove a header line from ``lines``."""
    if not lines:
        return _FIELDS
    number, cells = lines[0]
    where = f"line {number}"
    if len(cells) not in (3, 4):
        raise QueryError(
            f"{where}: has {len(cells)} columns, expected 3 or 4 (frame,x,y[,name]); separate them by commas"
        )
    if any(_is_number(cell) for cell in cells):
        return _FIELDS[: len(cells)]
    del lines[0]
    columns = [cell.lower() for cell in cells]
    _refuse_unknown(dict.fromkeys(columns), _FIELDS, where)
    for field in _FIELDS:
        if columns.count(field) > 1:
            raise QueryError(f"{where}: has two columns {field}; keep one")
        if field != "name" and field not in columns:
            raise QueryError(f"{where}: has no column {field}; give frame, x and y")
    return columns


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QueryError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _row(values: Mapping[str, Any], where: str) -> QueryRow:
    """Make a row from fields and values; refuse missing, unknown and wrongly typed fields."""
    _refuse_unknown(values, _FIELDS, where)
    for field in ("frame", "x", "y"):
        if field not in values:
            raise QueryError(f"{where}: has no {field}; give frame, x and y")
    name = values.get("name")
    if name is not None and not isinstance(name, str):
        raise QueryError(f"{where}: name must be text, got {name!r}; put it in quotes")
    name = (name or "").strip() or None
    where = f"{where} ({' '.join(name.split())})" if name else where
    frame, x, y = (_number(values[field], f"{where}: {field}") for field in ("frame", "x", "y"))
    return QueryRow(where, frame, x, y, name)


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for field in given:
        if field not in known:
            hint = suggestion(field.strip().lower(), known, "fields here are")
            raise QueryError(f"{where}: {field!r} is not a field; {hint}")


def _number(value: Any, what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # a whole number of more than 308 digits
            return math.inf
    described = f"the text {value!r}" if isinstance(value, str) else json.dumps(value)
    raise QueryError(f"{what} must be a number, got {described}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
