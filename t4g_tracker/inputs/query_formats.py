"""The file formats of query points: an open file in, a table out; errors name the place of the mistake."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from t4g_tracker.errors import QueryError, suggestion
from t4g_tracker.inputs.array_files import ArrayFile
from t4g_tracker.inputs.input_files import decoded
from t4g_tracker.inputs.query_csv import FIELDS, points_of_csv
from t4g_tracker.inputs.query_table import MOST_POINTS, ClipFacts, QueryTable, check_count, checked_name

_SHAPE = '{"queries": [{"frame": 0, "x": 12.5, "y": 40}, ...]}, or the list alone'
_MOST_ARRAY_BYTES = 2**28  # of an array of query points or names


def points_of_json(file: BinaryIO) -> QueryTable:
    """Parse a JSON list of objects or [frame, x, y], or an object with that list.

    Raises:
        QueryError: If the text is not JSON (line and column are named) or has another form, or if an
            object has a field twice.
    """
    text = decoded(file.read(), QueryError)
    _check_length(text)
    try:
        parsed = json.loads(text, object_pairs_hook=_fields_of)
    except json.JSONDecodeError as error:
        raise QueryError(
            f"line {error.lineno}, column {error.colno}: is not valid JSON ({error.msg}); correct it there"
        ) from error
    except (ValueError, RecursionError) as error:
        raise QueryError(
            "is not valid JSON (too long a number, or too deep); give a list of points"
        ) from error
    if isinstance(parsed, dict):
        _check_fields(parsed, ["queries"], "the top level", f"write {_SHAPE}")
        parsed = parsed.get("queries")
    if not isinstance(parsed, list):
        raise QueryError(f"must be a list of points; write {_SHAPE}")
    check_count(len(parsed))
    frame, xy, names = np.empty(len(parsed)), np.empty((len(parsed), 2)), []
    for index, item in enumerate(parsed):
        frame[index], *xy[index], name = _point(item, f"query point {index}")
        names.append(name)
    return QueryTable(frame, xy, names)


def _check_length(text: str) -> None:
    """Refuse too many points before an object is made for each: count what opens a list or an object."""
    if text.count("[") + text.count("{") <= MOST_POINTS:
        return
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)  # names may hold brackets
    outer = 2 if bare.lstrip().startswith("{") else 1
    count = bare.count("[") + bare.count("{") - outer
    if count > MOST_POINTS:
        check_count(count)


class _Repeated(dict[str, Any]):
    """An object of JSON that has a field twice."""

    field: str


def _fields_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON from its fields, and mark it if one comes twice."""
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    repeated, seen = _Repeated(fields), set()
    for field, _ in pairs:
        if field in seen:
            repeated.field = field
        seen.add(field)
    return repeated


def _point(item: Any, where: str) -> tuple[float, float, float, str | None]:
    """Frame, x, y and name of one point of JSON."""
    if isinstance(item, list) and len(item) == 3:
        item = dict(zip(FIELDS, item, strict=False))
    elif isinstance(item, list) and len(item) == 2:
        raise QueryError(f"{where}: has two numbers, the frame is missing; put it first, as in [0, x, y]")
    if not isinstance(item, dict):
        raise QueryError(f"{where}: must be an object with frame, x and y, or a list [frame, x, y]")
    _check_fields(item, FIELDS, where, f"fields here are {', '.join(FIELDS)}")
    for field in ("frame", "x", "y"):
        if field not in item:
            raise QueryError(f"{where}: has no {field}; give frame, x and y")
    name = item.get("name")
    if name is not None and not isinstance(name, str):
        raise QueryError(f"{where}: name must be text, got {_shown(name)}; put it in quotes")
    name = checked_name(name, where)
    where = f"{where} ({name})" if name else where
    frame, x, y = (_number(item[field], f"{where}: {field}") for field in ("frame", "x", "y"))
    return frame, x, y, name


def _check_fields(given: Mapping[str, Any], known: Sequence[str], where: str, otherwise: str) -> None:
    """Refuse a field that is unknown or comes twice."""
    if isinstance(given, _Repeated):
        raise QueryError(f"{where}: has {_shown(given.field)} twice; keep one")
    for field in given:
        if field not in known:
            hint = suggestion(field.strip().lower(), known, otherwise)
            raise QueryError(f"{where}: {_shown(field)} is not a field; {hint}")


def _number(value: Any, what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # a whole number of more than 308 digits
            return math.inf
    described = f"the text {_shown(value)}" if isinstance(value, str) else _shown(value)
    raise QueryError(f"{what} must be a number, got {described}")


def _shown(value: Any) -> str:
    """A value of JSON, short enough for a message."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= 50 else f"{value[:50]}...")
    return json.dumps(value)


def points_of_arrays(file: BinaryIO) -> QueryTable:
    """Parse an npy array (N, 3) of frame, x, y, or the ``queries`` and ``names`` of an npz.

    Raises:
        QueryError: If the data are cut short or pickled, or have another shape or type.
    """
    arrays = ArrayFile(file, _MOST_ARRAY_BYTES)
    name = "" if arrays.names == [""] else "queries"
    if name not in arrays.names:
        held = ", ".join(arrays.names[:10]) or "nothing"
        raise QueryError(f"has no array named queries, it holds {held}; save (N, 3) frame, x, y there")
    header = arrays.header(name)
    if len(header.shape) != 2 or header.shape[1] != 3 or header.dtype.kind not in "iuf":
        raise QueryError(
            f"must hold numbers of shape (N, 3), as frame, x, y; got {header.dtype} {header.shape}"
        )
    check_count(header.shape[0])
    points = arrays.read(name).astype(np.float64)
    rounded = header.dtype == np.float16 and np.abs(points).max() > 256
    doubt = "float16 rounds positions over 256 px to quarters or more; save float32" if rounded else ""
    names = names_of(arrays, header.shape[0]) if "names" in arrays.names else None
    return QueryTable(points[:, 0], points[:, 1:], names, clip=_clip_of(arrays), doubt=doubt)


def names_of(arrays: ArrayFile, count: int) -> list[str | None]:
    """Read the ``names`` of ``count`` points from an npz, and check them.

    Raises:
        QueryError: If they are no (N,) array of text, or results could not hold one.
    """
    header = arrays.header("names")
    if header.shape != (count,):
        raise QueryError(f"has {count} query points but names of shape {header.shape}; give one each")
    if header.dtype.kind != "U":
        raise QueryError(f"names must be text, got {header.dtype}; save np.array(names, dtype=str)")
    return [
        checked_name(str(name), f"query point {index}") for index, name in enumerate(arrays.read("names"))
    ]


def _clip_of(arrays: ArrayFile) -> ClipFacts | None:
    """What an npz says of the clip that its points are of; None if it holds points alone."""
    if "tracks" not in arrays.names and "start_frame" not in arrays.names:
        return None
    shape = arrays.header("tracks").shape if "tracks" in arrays.names else ()
    return ClipFacts(
        size=size_of(arrays.read("size")) if "size" in arrays.names else None,
        frame_count=shape[1] if len(shape) == 3 else None,
        start_frame=start_frame_of(arrays),
    )


def size_of(array: np.ndarray) -> tuple[int, int]:
    """Height and width from the array ``size``; raise QueryError if it is no two whole numbers above 0."""
    sides = array.tolist() if array.shape == (2,) and array.dtype.kind in "iuf" else []
    if not sides or not all(0 < side < 2**31 and side == int(side) for side in sides):
        raise QueryError(
            "size must be the height and width of the video, two whole numbers above 0, got "
            f"{array.dtype} {' '.join(np.array2string(array, threshold=4).split())[:60]}"
        )
    return int(sides[0]), int(sides[1])


def start_frame_of(arrays: ArrayFile) -> int:
    """The number of the first frame in an npz, 0 if it has none; raise QueryError if it is none."""
    if "start_frame" not in arrays.names:
        return 0
    header = arrays.header("start_frame")
    if header.shape != () or header.dtype.kind not in "iu":
        raise QueryError(f"start_frame must be one whole number, got {header.dtype} {header.shape}")
    return int(arrays.read("start_frame"))


FORMATS: dict[str, Callable[[BinaryIO], QueryTable]] = {
    ".json": points_of_json,
    ".csv": points_of_csv,
    ".tsv": points_of_csv,
    ".txt": points_of_csv,
    ".npy": points_of_arrays,
    ".npz": points_of_arrays,
}
