"""Hypothesis strategies that damage a text: its words, the document that it holds, or its bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from fuzz_bytes import damaged, shares
from hypothesis import strategies as st

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\w+|\s+|.', re.DOTALL)
WORDS = (
    *(
        "0",
        "1",
        "2",
        "3",
        "7.5",
        "12",
        "30",
        "1.0e1",
        "-0.4",
        "47.4",
        "0.5",
        "-1",
        "1.5",
        "1e308",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        ".nan",
        ".inf",
        "9" * 400,
        "1" * 5000,
    ),
    *("0x10", "1_0", "0100", "1:20", "1e-3", "2020-99-99", "٣", "true", "null", "~", "yes", '""', "''"),
    *(
        '"\\ud800"',
        '"\\u0000"',
        '"=1+1"',
        '"a,b"',
        "'a\nb'",
        '"a"',
        "[]",
        "{}",
        "[[]]",
        "[" * 3000,
        "{" * 3000,
    ),
    *(
        '{"frame": 0,' * 1500,
        "- " * 3000,
        "]",
        "}",
        ",",
        ":",
        ";",
        "\t",
        "\0",
        "\x1b[31m",
        "\N{ZERO WIDTH NO-BREAK SPACE}",
    ),
    *(
        "&a [*a]",
        "*a",
        "!!int abc",
        "!!timestamp x",
        "!!bool maybe",
        "!!binary x",
        "!!python/name:os.system",
        "<<: ",
    ),
    *(
        "? ",
        "|",
        ">",
        "%YAML 9.9",
        "--- ",
        "...",
        "#",
        "@",
        "`",
        "\u2028",
        "\x85",
        "\U0001f600",
        "frame",
        "x",
        "steps",
    ),
)
ENCODINGS = (*["utf-8"] * 10, "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037")


NUMBER = re.compile(r"-?\d")


def _reworded(kind, share, other, count, word) -> Callable[[list[str]], list[str]]:
    """Replace, insert, leave out, repeat or exchange words, or replace a number."""

    def change(tokens: list[str]) -> list[str]:
        at, to = share * len(tokens) >> 16, other * len(tokens) >> 16
        if kind == "number":
            numbers = [index for index, token in enumerate(tokens) if NUMBER.match(token)] or [at]
            at = numbers[share * len(numbers) >> 16]
        if kind in ("number", "replace"):
            return [*tokens[:at], word, *tokens[at + 1 :]]
        if kind == "insert":
            return [*tokens[:at], word, *tokens[at:]]
        if kind == "leave out":
            return tokens[:at] + tokens[at + count :]
        if kind == "repeat":
            return tokens[: at + count] + tokens[at:]
        return [*tokens[:at], *tokens[to : to + count], *tokens[at + 1 :]]

    return change


word_mutations = st.builds(
    _reworded,
    st.sampled_from(("number", "number", "number", "replace", "insert", "leave out", "repeat", "exchange")),
    shares,
    shares,
    st.integers(1, 12),
    st.sampled_from(WORDS),
)


@st.composite
def reworded(draw, valid: tuple[bytes, ...]) -> bytes:
    """A valid text after one to three changes of its words, perhaps in another encoding."""
    tokens = TOKEN.findall(draw(st.sampled_from(valid)).decode())
    for mutation in draw(st.lists(word_mutations, min_size=1, max_size=2)):
        tokens = mutation(tokens)
    text = draw(st.sampled_from(("\n", "\n", "\n", "\r\n", "\r"))).join("".join(tokens).split("\n"))
    return text.encode(draw(st.sampled_from(ENCODINGS)), errors="replace")


def texts(valid: tuple[bytes, ...], document: Any) -> st.SearchStrategy[bytes]:
    """A text that is changed in its bytes, its words, or the document that it holds."""
    return st.one_of(
        damaged(valid), reworded(valid), reworded(valid), documents(document), documents(document)
    )


def tables(valid: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged(valid), reworded(valid), reworded(valid), reworded(valid))


# documents of lists and of pairs of names and values

ODD_VALUES = (
    *(None, True, False, 0, 1, -1, 5, 10**9, 10**400, 1.5, 1e308, float("nan"), float("inf"), -0.0),
    *("", "1", "abc", "1e-3", "\ud800", "a\0b", "=1+1", "\n", "x" * 5000, "\u202e", [], [1, 2, 3], [[]], {}),
    *(
        {"x": 1},
        {"": None},
        [None] * 4,
        ["1", "2", "3"],
        [True] * 3,
        {"frame": 1, "x": 9, "y": 9},
        [1, 9.5, 9.5],
    ),
)


def _written(document: Any) -> str:
    """Write a document as JSON, which is YAML too; a tuple of pairs is an object, whose names may repeat."""
    if isinstance(document, tuple):
        return "{" + ", ".join(f"{json.dumps(name)}: {_written(value)}" for name, value in document) + "}"
    if isinstance(document, list):
        return "[" + ", ".join(map(_written, document)) + "]"
    return json.dumps(document)


def _pairs(document: Any) -> Any:
    """A document with its objects as tuples of pairs."""
    if isinstance(document, dict):
        return tuple((name, _pairs(value)) for name, value in document.items())
    return [_pairs(value) for value in document] if isinstance(document, list) else document


@st.composite
def _changed(draw, document: Any) -> Any:
    """Go down to some part of a document; replace it, leave it out, repeat it or rename it."""
    if not isinstance(document, list | tuple) or not document or draw(st.integers(0, 5)) == 0:
        return _pairs(draw(st.sampled_from(ODD_VALUES)))
    parts = list(document)
    at = draw(shares) * len(parts) >> 16
    way = draw(st.sampled_from(("deeper",) * 6 + ("leave out", "repeat", "more", "rename")))
    if way == "leave out":
        del parts[at]
    elif way == "repeat":
        parts.insert(at, parts[at])
    elif isinstance(document, tuple):
        name, value = parts[at]
        if way == "more":
            parts.append((draw(st.sampled_from(("more", "", "Frame", name))), value))
        elif way == "rename":
            parts[at] = draw(st.sampled_from(("x", "y", "name", "framex", "FRAME", "", "1"))), value
        else:
            parts[at] = name, draw(_changed(value))
    else:
        parts[at] = draw(_changed(parts[at]))
    return tuple(parts) if isinstance(document, tuple) else parts


@st.composite
def documents(draw, document: Any) -> bytes:
    """A document after one or two changes, written as JSON."""
    changed = _pairs(document)
    for _ in range(draw(st.integers(1, 2))):
        changed = draw(_changed(changed))
    return _written(changed).encode(draw(st.sampled_from(("utf-8",) * 8 + ("utf-8-sig", "utf-16"))))
