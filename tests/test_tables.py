"""One table, four faces."""

import csv
import io
import math
from xml.etree import ElementTree

import pytest

from t4g_tracker.tables import Table, markdown_line, rounded, spreadsheet_text

TABLE = Table(["clip", "method", "AJ"], [["a, b", "<flow>", "7.5"], ["long name", "x", "100.0"]], words=2)


def test_on_a_terminal_words_begin_and_figures_end_in_line():
    assert TABLE.console() == [
        "clip       method     AJ",
        "a, b       <flow>    7.5",
        "long name  x       100.0",
    ]


def test_markdown_has_a_rule_below_the_header():
    assert TABLE.markdown() == (
        "| clip | method | AJ |\n| --- | --- | --- |\n| a, b | <flow> | 7.5 |\n| long name | x | 100.0 |\n"
    )
    rest = "".join(markdown_line(row) for row in TABLE.rows)
    assert Table(TABLE.header, []).markdown() + rest == TABLE.markdown()


def test_a_bar_in_a_cell_ends_no_column_of_markdown():
    assert markdown_line(["a|b", "1"]) == "| a\\|b | 1 |\n"


def test_csv_reads_back_cells_with_commas():
    assert list(csv.reader(io.StringIO(TABLE.csv()))) == [list(TABLE.header), *TABLE.rows]


@pytest.mark.parametrize("text", ["=1+2", "+1+2", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text):
    assert spreadsheet_text(text) == f"'{text}"
    assert list(csv.reader(io.StringIO(Table(["clip"], [[text]]).csv()))) == [["clip"], [f"'{text}"]]


@pytest.mark.parametrize("text", ["", "-", "-1.5", "+2", "nose", "a=1", "'=1"])
def test_any_other_text_and_numbers_stay_as_they_are(text):
    assert spreadsheet_text(text) == text


def test_html_hides_no_markup_and_marks_rows():
    table = ElementTree.fromstring(TABLE.html(own=[1]))
    assert [[cell.text for cell in row] for row in table] == [TABLE.header, *TABLE.rows]
    assert [row.get("class") for row in table] == [None, None, "own"]
    assert "<flow>" not in TABLE.html()


def test_a_number_that_is_not_known_is_a_dash():
    assert [rounded(value) for value in (12.34, 0.0, math.nan, None)] == ["12.3", "0.0", "-", "-"]
    assert (rounded(0.125, 2), rounded(12.6, 0)) == ("0.12", "13")
