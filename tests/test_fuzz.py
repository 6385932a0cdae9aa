"""Damaged files of every kind are read, or refused in one line: no traceback, no hang, no flood of memory."""

import pytest
from fuzz_inputs import Reader, fuzz
from fuzz_kinds import MODEL_NAMES, NAMES, kind_of

EXAMPLES = 25  # of each kind; tests/fuzz_inputs.py takes any number


@pytest.fixture(scope="module")
def reader():
    reader = Reader()
    yield reader
    reader.stop()


@pytest.mark.parametrize("name", NAMES + MODEL_NAMES)
def test_a_damaged_file_is_read_or_refused_in_one_line(name, reader, tmp_path):
    figures = fuzz(kind_of(name), EXAMPLES, reader, tmp_path)
    assert not figures.faults, "\n".join(figures.faults[:3])
    assert figures.examples >= EXAMPLES
