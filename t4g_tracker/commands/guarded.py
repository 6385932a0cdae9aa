"""How every command handles errors, Ctrl-C and its process."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from t4g_tracker.commands.printing import SteadyStream, steady_streams
from t4g_tracker.errors import Interrupted, TrackerError, TrackerWarning, noted_warnings, shortened

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_NO_READER = 141  # as of a program that SIGPIPE ended
LONGEST_LINE = 2000  # characters of a message
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")  # exists where Linux has them


def guarded(command: Callable[[list[str] | None], int], argv: list[str] | None) -> int:
    """Run a command; bad input becomes one line on standard error and exit code 2.

    What cannot be printed is dropped: the work goes on, and its files are written all the same.
    """
    with steady_streams() as output:
        return _judged(_run(command, argv), output)


def _run(command: Callable[[list[str] | None], int], argv: list[str] | None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", module="PIL")  # of damage, which also raises, and of EXIF data
    show_warnings_as_lines()
    for noisy in ("httpx", "huggingface_hub", "diffusers", "transformers", "matplotlib", "torch"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for library in ("DIFFUSERS", "TRANSFORMERS", "HF_HUB"):  # read when they are imported later
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    _request_large_pages()
    arguments = sys.argv if argv is None else argv
    try:
        with noted_warnings():
            return command(argv)
    except TrackerError as error:
        print(f"error: {shortened(str(error), LONGEST_LINE)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as interrupt:
        again = "the same command, without --fresh," if "--fresh" in arguments else "the same command"
        then = interrupt.then if isinstance(interrupt, Interrupted) else "repeats what was not finished"
        print(f"\n{str(interrupt) or 'interrupted'}; {again} {then}", file=sys.stderr)
        return EXIT_INTERRUPTED


def _judged(code: int, output: SteadyStream) -> int:
    """The exit code, given what became of standard output."""
    output.flush()
    if code or output.error is None:
        return code
    if isinstance(output.error, BrokenPipeError):  # the reader had enough, as head does
        return EXIT_NO_READER
    reason = f"cannot be written ({output.error.strerror}); free some space, or print elsewhere"
    print(f"error: standard output: {reason}", file=sys.stderr)
    return EXIT_BAD_INPUT


def show_warnings_as_lines() -> None:
    """Print every ``TrackerWarning`` of this process as one line, without the place in the code."""
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, TrackerWarning):
            print(f"warning: {shortened(str(message), LONGEST_LINE)}", file=file or sys.stderr)
        else:
            before(message, category, filename, lineno, file, line)

    warnings.simplefilter("always", TrackerWarning)
    warnings.showwarning = show


def _request_large_pages() -> None:
    """Make PyTorch request pages of 2 MB from Linux: getting 4 KB ones takes longer than many operations.

    PyTorch reads the variable at its first allocation, in worker processes too. The user's own value stays.

    Source: PyTorch pull request 107697.
    """
    if LARGE_PAGES.exists():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag that a loop checks between steps; a second one interrupts.

    Yields:
        A function that returns the flag.
    """
    interrupted = False

    def handle(number: int, frame: object) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    try:
        before = signal.signal(signal.SIGINT, handle)
    except ValueError:  # only the main thread receives signals
        yield lambda: False
        return
    try:
        yield lambda: interrupted
    finally:
        signal.signal(signal.SIGINT, before)
