"""Printing survives a reader that stops and a terminal of few letters; a full disk is one line."""

import contextlib
import errno
import io
import os
import sys

import pytest

from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.printing import say


@pytest.fixture
def unread_pipe(monkeypatch):
    """Makes standard output a pipe whose reader has gone, within a test: pytest sets it for each part."""

    @contextlib.contextmanager
    def use():
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as stream, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stream)
            yield stream

    return use


def test_work_goes_on_and_ends_well_when_nobody_reads_what_it_prints(unread_pipe, capfd):
    done = []

    def work(argv):
        say("before the work")
        done.append(1)
        say("after it")
        return 0

    with unread_pipe():
        assert guarded(work, []) == 141  # as of a program that the end of its pipe has stopped
    assert done == [1]
    assert capfd.readouterr() == ("", "")


def test_what_others_left_in_the_buffer_is_dropped_too(unread_pipe, capfd):
    def show_help(argv):
        sys.stdout.write("usage: ...")  # not flushed
        return 0

    with unread_pipe() as stream:
        assert guarded(show_help, []) == 141
        stream.flush()  # as Python does when it ends
    assert capfd.readouterr() == ("", "")


class Full(io.StringIO):
    """A file on a full disk."""

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_behind_standard_output_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Full())
    assert guarded(lambda argv: say("results") or 0, []) == 2
    assert capsys.readouterr().err == (
        "error: standard output: cannot be written (No space left on device); "
        "free some space, or print elsewhere\n"
    )


@pytest.mark.parametrize(
    ("encoding", "printed"), [("ascii", b"q\\xe9 \\udcff"), ("utf-8", "qé \\udcff".encode())]
)
def test_letters_that_a_terminal_lacks_are_printed_by_their_numbers(monkeypatch, encoding, printed):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    assert guarded(lambda argv: say("qé \udcff", end="") or 0, []) == 0
    assert raw.getvalue() == printed
