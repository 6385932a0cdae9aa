"""The order of the files of a sequence, by the numbers in their names.

One name alone does not say what its digits mean: ``2.1001`` may be 2.1001 seconds or frame 1001 of
version 2, and the minus of ``frame-6`` a sign or a hyphen. All names of a folder together do. Libraries
for natural order, such as natsort, compare two names at a time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import PurePath
from statistics import median_low

from t4g_tracker.errors import VideoError

_WHOLE = re.compile(r"(\d+)")
_DECIMAL = re.compile(r"(\d+(?:\.\d+)?)")
_CLOCK = re.compile(r"(\d{1,2})((?:[.:_-]\d\d){1,2})\s*([ap])m\b")  # of 12 hours
_BEFORE_A_SIGN = ("", "_", ".", " ", "-", "(")
_LISTED_GAPS = 5


@dataclass(frozen=True)
class OrderedNames:
    """Names in the order of their frames."""

    names: tuple[str, ...]
    numbers: tuple[Fraction, ...] | None  # of each name; None if no number alone tells the names apart
    doubt: str | None  # why the order may be wrong, to put after the folder's name


@dataclass(frozen=True)
class _Name:
    """A name without extension, split into texts and the numbers between them."""

    name: str
    texts: tuple[str, ...]  # without case and minus signs; one more than numbers
    numbers: tuple[Fraction, ...]


def order_names(names: Sequence[str], where: str) -> OrderedNames:
    """Put the names of one sequence into the order of their frames.

    Numbers count, not digits: 2 comes before 10. A minus is a sign after a separator or where other names
    lack it. Digits after a point are a fraction if the number before it changes too, if some names have no
    point, or if that makes even steps; after a version, which does not change, they are the frame's number.

    Args:
        names: File names with extensions, which do not count.
        where: Begins error messages.

    Raises:
        VideoError: If two names have the same number, or it cannot be told whether numbers are decimal.
    """
    pattern = _DECIMAL if _are_decimal(names, where) else _WHOLE
    split = _signed([_split(name, pattern) for name in names])
    split.sort(key=lambda name: (*zip(name.texts, name.numbers, strict=False), (name.texts[-1],), name.name))
    _refuse_repeated_numbers(split, where)
    ordered = tuple(name.name for name in split)
    if len({name.texts for name in split}) > 1:
        return OrderedNames(ordered, None, _several_patterns(split))
    changing = _changing(split)
    if _are_dates(split, changing):
        return OrderedNames(ordered, None, None)
    if len(changing) > 1:
        last_number_first = sorted(split, key=lambda name: name.numbers[::-1])
        agree = tuple(name.name for name in last_number_first) == ordered
        doubt = f"has names with several numbers that change, such as {ordered[-1]}"
        return OrderedNames(ordered, None, None if agree else doubt)
    if not split or not split[0].numbers:
        return OrderedNames(ordered, None, None)
    numbers = tuple(name.numbers[changing[0] if changing else -1] for name in split)
    all_negative = len(numbers) > 1 and numbers[-1] < 0
    doubt = f"has negative numbers alone, {numbers[0]} in {ordered[0]}"
    return OrderedNames(ordered, numbers, doubt if all_negative else None)


def describe_gaps(numbers: Sequence[Fraction]) -> str | None:
    """Describe where ascending numbers leave some out or change their step; None if they do neither.

    Example: 1, 2, 4, 7 gives "has no file with number 3, 5-6".
    """
    pairs = list(pairwise(numbers))
    if not pairs:
        return None
    all_whole = all(number.denominator == 1 for number in numbers)
    most_are_there = all_whole and numbers[-1] - numbers[0] < 2 * len(numbers)
    step = median_low(after - before for before, after in pairs)
    uneven = [(a, b) for a, b in pairs if not step / Fraction(3, 2) < b - a < step * Fraction(3, 2)]
    if not uneven:
        return None
    if most_are_there:
        step, uneven = Fraction(1), [(a, b) for a, b in pairs if b - a > 1]
    listed = uneven[:_LISTED_GAPS]
    more = f" and {len(uneven) - len(listed)} more" if len(uneven) > len(listed) else ""
    if step == 1 and all_whole:
        gaps = [str(a + 1) if b == a + 2 else f"{a + 1}-{b - 1}" for a, b in listed]
        return f"has no file with number {', '.join(gaps)}{more}"
    gaps = [f"from {_decimal(a)} to {_decimal(b)}" for a, b in listed]
    return f"has numbers in steps of {_decimal(step)}, but {', '.join(gaps)}{more}"


def _decimal(number: Fraction) -> str:
    return str(number) if number.denominator == 1 else f"{float(number):.16g}"


def _stem(name: str) -> str:
    """A name without extension and case, and with times of day in 24 hours."""
    stem = PurePath(name).stem.casefold()
    return _CLOCK.sub(lambda time: f"{int(time[1]) % 12 + 12 * (time[3] == 'p')}{time[2]}", stem)


def _split(name: str, pattern: re.Pattern[str]) -> _Name:
    parts = pattern.split(_stem(name))
    return _Name(name, tuple(parts[::2]), tuple(Fraction(part) for part in parts[1::2]))


def _are_decimal(names: Sequence[str], where: str) -> bool:
    """Whether digits after a point are fractions, rather than numbers of their own."""
    stems = [_stem(name) for name in names]
    found = [re.findall(r"(\d+)\.(\d+)", stem) for stem in stems]
    pointed = [pairs[-1] for pairs in found if pairs]  # whole number and digits after the point
    if not pointed:
        return False
    fractions = [digits for _, digits in pointed]
    may_be_decimal, may_be_whole = not _are_counted(fractions), not _are_cut_decimals(fractions)
    if len(pointed) < len(stems):
        if len({re.sub(r"-?\d+(\.\d+)?", "", stem) for stem in stems}) > 1:
            return False  # names of several patterns
        may_be_whole = False  # 9.5, 10, 10.1
    elif len(set(map(len, fractions))) == 1:  # both give one order
        return len({whole for whole, _ in pointed}) > 1
    if may_be_decimal and may_be_whole and _are_even(pointed):
        return True
    if may_be_decimal == may_be_whole:
        example = next(name for name, pairs in zip(names, found, strict=True) if pairs)
        raise VideoError(
            f"{where}: it is not clear whether {example} has a decimal number; rename the files so that "
            "their numbers have equally many digits"
        )
    return may_be_decimal


def _are_even(pointed: Sequence[tuple[str, str]]) -> bool:
    """Whether numbers are in even steps if they are decimal, as 0.25, 0.5, 0.75, 1.0 are."""
    numbers = sorted(Fraction(f"{whole}.{digits}") for whole, digits in pointed)
    steps = [after - before for before, after in pairwise(numbers)]
    return len(steps) > 1 and 0 < max(steps) <= min(steps) * Fraction(21, 20)


def _are_counted(fractions: Sequence[str]) -> bool:
    """Whether digits count up, as 9 and 10 do: of decimal numbers, none is written 0.10 beside 0.9."""
    return len(set(map(len, fractions))) > 1 and any(len(f) > 1 and f[-1] == "0" for f in fractions)


def _are_cut_decimals(fractions: Sequence[str]) -> bool:
    """Whether digits are a fraction, as in 0.05 and 0.1: of whole numbers, none is written 05 beside 1."""
    shortest = min(map(len, fractions))
    return any(len(f) > shortest and f[0] == "0" for f in fractions)


def _signed(split: list[_Name]) -> list[_Name]:
    """Read each minus before a number as a sign or as a hyphen, alike in all names that look alike."""
    alike: dict[tuple[str, ...], list[_Name]] = {}
    for name in split:
        alike.setdefault(_without_minus(name.texts), []).append(name)
    signed = []
    for texts, group in alike.items():
        is_sign = [
            texts[index][-1:] in _BEFORE_A_SIGN or any(name.texts[index] == texts[index] for name in group)
            for index in range(len(texts))
        ]
        for name in group:
            has_minus = [text != bare for text, bare in zip(name.texts, texts, strict=True)]
            numbers = zip(name.numbers, has_minus, is_sign, strict=False)
            signed.append(
                _Name(
                    name.name,
                    tuple(b if sign else t for t, b, sign in zip(name.texts, texts, is_sign, strict=True)),
                    tuple(-number if minus and sign else number for number, minus, sign in numbers),
                )
            )
    return signed


def _without_minus(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Remove every minus that may be the sign of the number after it; one between two numbers is a hyphen."""
    return tuple(
        text[:-1] if index < len(texts) - 1 and text.endswith("-") and (index == 0 or text != "-") else text
        for index, text in enumerate(texts)
    )


def _changing(split: list[_Name]) -> list[int]:
    """List which numbers differ between names of one pattern."""
    columns = zip(*(name.numbers for name in split), strict=True)
    return [index for index, column in enumerate(columns) if len(set(column)) > 1]


def _are_dates(split: list[_Name], changing: list[int]) -> bool:
    """Whether all numbers that change are part of a date, year first, and of a time after it."""
    return any(
        all(_begins_with_date(name.numbers[index:]) for name in split)
        for index in range(changing[0] + 1 if changing else 0)
    )


def _begins_with_date(numbers: Sequence[Fraction]) -> bool:
    """Whether numbers begin with a date such as 2024-01-31, 20240131 or 20240131120509."""
    if numbers[0] >= 10**7:
        date, time = str(numbers[0])[:8], str(numbers[0])[8:14]
    else:
        date, time = "".join(f"{int(number):02}" for number in numbers[:3]), ""
    try:
        return 1900 <= datetime.strptime(f"{date}{time or '000000'}", "%Y%m%d%H%M%S").year < 2100
    except ValueError:
        return False


def _refuse_repeated_numbers(split: list[_Name], where: str) -> None:
    """Raise VideoError if two names have the number of one frame.

    Names with as many numbers as most have to differ in one of them. Of names with more or fewer, such
    as ``f2 (1)`` beside ``f2``, the number counts that changes in most names.
    """
    patterns = Counter(name.texts for name in split)
    main = [name for name in split if name.texts == patterns.most_common(1)[0][0]]
    changing = _changing(main)
    owner: dict[object, str] = {}
    for name in split:
        number: object = name.texts, name.numbers
        if len(changing) == 1 and name.numbers:  # names that look otherwise may have the same number
            place, usual, number = changing[0], main[0].numbers, name.numbers
            if len(name.numbers) != len(usual):
                alike = name.texts[: place + 1] == main[0].texts[: place + 1] and place < len(name.numbers)
                own = name.numbers[place if alike else -1]
                number = (*usual[:place], own, *usual[place + 1 :])
        if number in owner:
            raise VideoError(
                f"{where}: {owner[number]} and {name.name} have the number of one frame; keep one file a "
                "frame in the folder, and put others, such as masks, into a folder of their own"
            )
        owner[number] = name.name


def _several_patterns(split: list[_Name]) -> str:
    """Say which names do not look alike."""
    usual = Counter(name.texts for name in split).most_common(1)[0][0]
    first = next(name.name for name in split if name.texts == usual)
    other = next(name.name for name in split if name.texts != usual)
    return f"has names that do not look alike, such as {first} and {other}"
