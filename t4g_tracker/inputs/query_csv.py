"""Query points from tables as text: of spreadsheets of any country, pandas, numpy.savetxt or by hand."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from t4g_tracker.errors import QueryError, suggestion
from t4g_tracker.inputs.input_files import decoded, decoded_ansi
from t4g_tracker.inputs.query_table import MOST_POINTS, QueryTable, check_count, checked_name

FIELDS = ("frame", "x", "y", "name")

_SEPARATORS = ",;\t "
_LISTED = 5
_INDEX = ("", "unnamed: 0")  # heads of the column that pandas adds on the left
_WITH_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WITH_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)  # refused later, by their own message
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


@dataclass
class _Table:
    """The cells of a table as text."""

    separator: str
    columns: Sequence[str] = ()  # the field of each column; "" for an index
    has_header: bool = False
    rows: list[tuple[int, list[str]]] = field(default_factory=list)  # line number and cells, one a column


def points_of_csv(file: BinaryIO) -> QueryTable:
    """Parse a table with the columns frame, x, y and optionally name.

    Commas, semicolons, tabs or spaces separate cells, as the first line shows; with any but commas, decimals
    may have a comma. A header names the columns in any order; without one, they are in this order. The
    first line may be Excel's ``sep=;``. Lines that begin with # are comments, but numpy.savetxt's header is
    one. The column that pandas adds on the left is dropped. Text that is not UTF-8 is read as cp1252.

    Raises:
        QueryError: If a line has too few or too many cells or one that is not a number, or if what the table
            means stays open.
    """
    data, ansi = file.read(), None
    try:
        text = decoded(data, QueryError)
    except QueryError:
        ansi = decoded_ansi(data)
        if ansi is None:
            raise
        text = ansi
    table = _cells(io.StringIO(text, newline="").readlines())
    check_count(len(table.rows))
    _check_columns(table)
    _check_decimals(table)
    numbers = [_column(table, name) for name in ("frame", "x", "y")]
    line_numbers = [line for line, _ in table.rows]
    names = None
    if "name" in table.columns:
        column = table.columns.index("name")
        names = [
            checked_name(cells[column], f"query point {index} on line {line}")
            for index, (line, cells) in enumerate(table.rows)
        ]
    doubt = "" if ansi is None else _doubt_of(names or [])
    return QueryTable(numbers[0], np.stack(numbers[1:], axis=1), names, line_numbers, doubt=doubt)


def _doubt_of(names: Sequence[str | None]) -> str:
    """Warn of the names that are other ones if a text is in another code page than cp1252."""
    affected = [name for name in names if name is not None and not name.isascii()]
    if not affected:
        return ""
    more = f" and {len(affected) - _LISTED} more" if len(affected) > _LISTED else ""
    return (
        f"is not UTF-8 but, as it seems, of Windows (cp1252), with the names {', '.join(affected[:_LISTED])}"
        f"{more}; if these are wrong, save it as CSV UTF-8"
    )


def _cells(lines: list[str]) -> _Table:
    """Split lines into cells, and find the field of each column."""
    first, separator = _prepare(lines)
    if first is None:
        return _Table(",")
    table = _Table(separator or _separator(lines[first]))
    reader = csv.reader(lines, delimiter=table.separator, skipinitialspace=True, strict=True)
    end = 0
    try:
        for raw in reader:
            line, end = end + 1, reader.line_num
            cells = _stripped(raw)
            if not cells:
                continue
            if not table.columns:
                table.has_header = not any(_is_number(cell, ";") for cell in cells)
                table.columns = _columns(cells, line) if table.has_header else _first_point(cells, line)
                if table.has_header:
                    continue
            if cells[0].startswith("#") and table.columns[0] != "name":
                if line != end:
                    raise QueryError(f"line {line}: is a comment with quotes up to line {end}; remove these")
                continue
            table.rows.append((line, _filled(cells, table.columns, line)))
            if len(table.rows) > MOST_POINTS:
                check_count(sum(1 for text in lines if text.strip()))
    except csv.Error as error:
        raise QueryError(f"line {reader.line_num}: is not valid CSV ({error}); correct it there") from error
    return table


def _prepare(lines: list[str]) -> tuple[int | None, str]:
    """Blank out what comes before the table: Excel's separator line and comments.

    Returns:
        The index of the table's first line, None if there is none; the separator that is given, or "".
    """
    separator = ""
    for index, line in enumerate(lines):
        text = line.strip()
        given = re.fullmatch(r"sep=([^\w\"'.+#-])", line.strip("\r\n \ufeff"), re.IGNORECASE)
        if given and not separator:
            separator = given[1]
        elif text.startswith("#"):
            head = text.lstrip("# ")
            cells = _stripped(head.split(separator or _separator(head)))
            if _is_header(cells):  # as numpy.savetxt writes it
                lines[index] = head + "\n"
                return index, separator
        elif text.strip(_SEPARATORS + separator + '"'):
            return index, separator
        lines[index] = "\n"
    return None, separator


def _separator(line: str) -> str:
    """Find what separates the cells of a table from its first line: that with which it makes sense."""
    for separator in _SEPARATORS:
        try:
            cells = _stripped(next(csv.reader([line], delimiter=separator, skipinitialspace=True)))
        except csv.Error:
            continue
        numbers = [_is_number(cell, separator) for cell in cells]
        if _is_header(cells) or (3 <= len(cells) <= 4 and all(numbers[:3])):
            return separator
    return max(",;\t", key=line.count)


def _is_header(cells: Sequence[str]) -> bool:
    known = [cell.lower() for cell in cells if cell.lower() in FIELDS]
    return len(known) >= 2 and len(known) == len([cell for cell in cells if cell.lower() not in _INDEX])


def _stripped(cells: Sequence[str]) -> list[str]:
    """Cells without spaces around them, and without empty ones at the end."""
    found = [cell.strip() for cell in cells]
    while found and not found[-1]:
        found.pop()
    return found


def _first_point(cells: list[str], line: int) -> Sequence[str]:
    """The fields of a table without a header, from its first point; a name may be missing."""
    where = f"line {line}: has {len(cells)} column{'s' * (len(cells) != 1)}"
    if len(cells) == 2:
        raise QueryError(f"{where}, the frame is missing; put it first: frame,x,y")
    if len(cells) not in (3, 4):
        raise QueryError(f"{where}, expected 3 or 4 (frame,x,y[,name]); separate them by commas")
    return FIELDS


def _columns(cells: list[str], line: int) -> Sequence[str]:
    """The fields of the columns, from a header."""
    where = f"line {line}"
    columns = [cell.lower() for cell in cells]
    if len(columns) == 1:
        raise QueryError(
            f"{where}: has 1 column, expected 3 or 4 (frame,x,y[,name]); separate them by commas"
        )
    if columns[0] in _INDEX:
        columns[0] = ""
    for number, name in enumerate(columns):
        if not name and number:
            raise QueryError(f"{where}, column {number + 1}: has no name; name it or remove it")
        if name and name not in FIELDS:
            hint = suggestion(name[:50], FIELDS, f"fields here are {', '.join(FIELDS)}")
            raise QueryError(f"{where}: {cells[number][:50]!r} is not a field; {hint}")
        if columns.count(name) > 1:
            raise QueryError(f"{where}: has two columns {name}; keep one")
    for name in FIELDS[:3]:
        if name not in columns:
            remedy = "add it, with 0 for the first frame" if name == "frame" else "give frame, x and y"
            raise QueryError(f"{where}: has no column {name}; {remedy}")
    return columns


def _filled(cells: list[str], columns: Sequence[str], line: int) -> list[str]:
    """The cells of one point, as many as there are columns: a name may be left out at the end."""
    if len(cells) == len(columns):
        return cells
    may_lack_name = columns[-1] == "name"
    if may_lack_name and len(cells) == len(columns) - 1:
        return [*cells, ""]
    least = f"{len(columns) - 1} or " if may_lack_name else ""
    raise QueryError(
        f"line {line}: has {len(cells)} columns, expected {least}{len(columns)} ({','.join(columns)}); "
        "separate them as in the first line, and put a name with a separator in quotes"
    )


def _check_columns(table: _Table) -> None:
    """Refuse columns whose meaning stays open: one without a name, and four of numbers without a header."""
    if table.columns[0] == "":
        for line, cells in table.rows:
            if not re.fullmatch(r"\d+", cells[0], re.ASCII):
                raise QueryError(
                    f"line {line}, column 1: holds {cells[0][:50]!r}, but the column has no name; "
                    "call it name, or remove it"
                )
    if not table.has_header and all(_is_number(cells[3], ";") for _, cells in table.rows):
        raise QueryError(
            "has four columns of numbers, of which one may be an index; say which is which in a header, "
            "such as frame,x,y,name"
        )


def _check_decimals(table: _Table) -> None:
    """Refuse numbers whose decimal sign stays open."""
    numeric = [column for column, name in enumerate(table.columns) if name in FIELDS[:3]]
    cells = [(line, row[column]) for line, row in table.rows for column in numeric]
    points = [line for line, cell in cells if "." in cell]
    commas = [(line, cell) for line, cell in cells if _WITH_COMMA.fullmatch(cell)]
    if not commas or table.separator == ",":
        return
    line, cell = commas[0]
    if points:
        raise QueryError(
            f"line {line}: has the number {cell} with a comma, but line {points[0]} has one with a point; "
            "write all decimals alike"
        )
    if table.separator != ";" and all(_THOUSANDS.fullmatch(cell) for _, cell in commas):
        raise QueryError(f"line {line}: {cell} may have a decimal comma or mean thousands; write a point")


def _column(table: _Table, name: str) -> np.ndarray:
    """The numbers of a column."""
    column = table.columns.index(name)
    values = np.empty(len(table.rows))
    for index, (line, cells) in enumerate(table.rows):
        text = cells[column]
        if not _is_number(text, table.separator):
            comma = _WITH_COMMA.fullmatch(text)
            hint = "; write decimals with a point" if comma else ""
            raise QueryError(
                f"line {line}, column {column + 1} ({name}): must be a number, got the text "
                f"{text[:50]!r}{hint}"
            )
        values[index] = float(text.replace(",", "."))
    return values


def _is_number(cell: str, separator: str) -> bool:
    """Test for a number; a decimal comma needs another separator than the comma."""
    if separator != "," and _WITH_COMMA.fullmatch(cell):
        return True
    return bool(_WITH_POINT.fullmatch(cell) or _NOT_FINITE.fullmatch(cell))
