"""A table of short texts, written for a terminal, as Markdown, as CSV and as HTML."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows under a header: columns of words first, then columns of figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1  # how many columns are words, aligned left; figures are aligned right

    def console(self) -> list[str]:
        """Lines of aligned columns."""
        lines = [self.header, *self.rows]
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        return ["  ".join(map(self._aligned, range(len(line)), line, widths)) for line in lines]

    def _aligned(self, column: int, cell: str, width: int) -> str:
        return cell.ljust(width) if column < self.words else cell.rjust(width)

    def markdown(self) -> str:
        rule = ["---"] * len(self.header)
        return "".join(map(markdown_line, [self.header, rule, *self.rows]))

    def csv(self) -> str:
        """Comma-separated lines; no cell is a formula, see ``spreadsheet_text``."""
        text = io.StringIO()
        csv.writer(text).writerows([map(spreadsheet_text, line) for line in [self.header, *self.rows]])
        return text.getvalue()

    def html(self, own: Collection[int] = ()) -> str:
        """A ``table`` element; the rows of these numbers get the class "own"."""
        lines = [f"<tr>{_html_cells('th', self.header)}</tr>"]
        for number, row in enumerate(self.rows):
            mark = ' class="own"' if number in own else ""
            lines.append(f"<tr{mark}>{_html_cells('td', row)}</tr>")
        return "\n".join(["<table>", *lines, "</table>"])


def _html_cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)


def spreadsheet_text(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run as a formula.

    Every CSV file that holds names from outside writes them through this function. Numbers and a
    lone dash are not formulas and stay as they are.

    Source: OWASP's page on CSV injection.
    """
    if not text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) or text == "-":
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def markdown_line(cells: Sequence[str]) -> str:
    """Write a row of a Markdown table, for rows that are printed one by one; bars in cells are escaped."""
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


def rounded(value: float | None, places: int = 1, unknown: str = "-") -> str:
    """Round a number for a table; ``unknown`` if there is none."""
    return unknown if value is None or math.isnan(value) else f"{value:.{places}f}"
