"""A command's files are written whole, whatever becomes of its standard streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from t4g_tracker.commands.guarded import guarded
from t4g_tracker.errors import TrackerError, warn

PROGRAM = """
import contextlib, os, sys
from t4g_tracker.commands.guarded import guarded

def command(argv):
    for number in range(3000):
        print("line", number, chr(233), chr(0xdcff))
    print("said", file=sys.stderr)
    with open("result", "wb") as file:
        file.write(b"whole")
        file.flush()
        with contextlib.suppress(OSError):
            os.write(2, b"noise of a library")
    return 0

sys.exit(guarded(command, []))
"""


@pytest.fixture
def shell(tmp_path):
    """Runs a line of bash in which RUN is the program."""
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(line, **more):
        line = line.replace("RUN", f"{sys.executable} program.py")
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **more}
        words = ["bash", "-c", f"set -o pipefail; {line}"]
        return subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


FULL = (
    "error: standard output: cannot be written (No space left on device); free some space, or print elsewhere"
)
NOISE = "noise of a library"


@pytest.mark.parametrize(
    ("line", "code", "lines", "said"),
    [
        ("RUN", 0, 3000, f"said\n{NOISE}"),
        ("RUN 2>&-", 0, 3000, ""),
        ("RUN >&-", 0, 0, f"said\n{NOISE}"),
        ("RUN <&- >&- 2>&-", 0, 0, ""),
        ("RUN 2>/dev/full", 0, 3000, ""),
        ("RUN | head -1", 141, 1, f"said\n{NOISE}"),
        ("RUN 2>&1 | head -1", 141, 1, ""),
        ("RUN >/dev/full", 2, 0, f"said\n{NOISE}{FULL}\n"),
    ],
)
def test_the_work_is_done_whatever_becomes_of_its_messages(shell, tmp_path, line, code, lines, said):
    done = shell(line)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (code, lines, said)
    assert (tmp_path / "result").read_bytes() == b"whole"


def test_what_a_terminal_cannot_show_is_escaped(shell):
    done = shell("RUN", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.startswith("line 0 \\xe9 \\udcff\nline 1 ")


def test_a_program_without_a_console_has_no_streams(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    def command(argv):
        sys.stderr.write("a line")
        assert not sys.stderr.isatty()
        raise TrackerError("wrong")

    assert guarded(command, []) == 2
    assert sys.stdout is None


def test_a_message_is_one_line_whatever_it_quotes(capsys):
    def command(argv):
        warn("a\nb.mp4: odd")
        raise TrackerError("a\nb\x1b[31m.mp4: no such file; check the path")

    assert guarded(command, []) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert warning == r"warning: a\nb.mp4: odd"
    assert error == r"error: a\nb\x1b[31m.mp4: no such file; check the path"
