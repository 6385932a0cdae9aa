"""Messages of the whole program: each names a remedy, and quotes what it is about without end."""

import ast
import re
from pathlib import Path

import pytest

from t4g_tracker import errors
from t4g_tracker.errors import TrackerError, described, one_line, shortened

ROOT = Path(__file__).parents[1]
KINDS = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TrackerError)
}
REMEDY = re.compile(r";|\bmust\b|\bwrite\b|\bchoose\b|did you mean")
FEWEST_WORDS = 5  # a shorter text only puts other messages together


def refusals(path):
    """The words of every error that a file makes, without what it puts in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in KINDS
            and node.args
        ):
            parts = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
            yield node.lineno, "".join(part for part in parts if isinstance(part, str))


FILES = sorted([*ROOT.glob("t4g_tracker/**/*.py"), *ROOT.glob("adaptation/**/*.py")])


def test_every_refusal_names_a_remedy():
    found = [(path, line, text) for path in FILES for line, text in refusals(path)]
    assert len(found) > 200
    without = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path, line, text in found
        if len(text.split()) >= FEWEST_WORDS and not REMEDY.search(text)
    ]
    assert not without


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "nothing"),
        (3, "3"),
        ("x", "the text 'x'"),
        ("a\nb", r"the text 'a\nb'"),
        ([1, 2], "[1, 2]"),
        (list(range(9)), "[0, 1, 2, 3, ...]"),
    ],
)
def test_a_value_is_described_briefly(value, said):
    assert described(value) == said


def test_a_number_that_python_will_not_write_is_described():
    assert described(10**9000) == "a very large number"


def test_a_message_is_shortened_and_on_one_line():
    assert shortened("x" * 90) == "x" * 77 + "..."
    assert shortened("a\tb\x1b\n") == r"a\tb\x1b\n"
    assert one_line(ValueError("two\n   lines ")) == "two lines"
