"""What every command does about errors, Ctrl-C and the process it runs in."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from t4g_tracker.errors import TrackerError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")  # where Linux can give them


def guarded(command: Callable[[list[str] | None], int], argv: list[str] | None) -> int:
    """Run a command; a bad input becomes one line on standard error and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for noisy in ("httpx", "huggingface_hub", "diffusers", "transformers", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for library in ("DIFFUSERS", "TRANSFORMERS", "HF_HUB"):  # those imported later set their level by this
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    _ask_for_large_pages()
    arguments = sys.argv if argv is None else argv
    try:
        return command(argv)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as interrupt:
        again = "the same command, without --fresh," if "--fresh" in arguments else "the same command"
        print(f"\n{str(interrupt) or 'interrupted'}; {again} resumes", file=sys.stderr)
        return EXIT_INTERRUPTED


def _ask_for_large_pages() -> None:
    """Have PyTorch ask Linux for pages of 2 MB: to get 4 KB ones costs more time than many an operation.

    PyTorch looks at its first allocation, in worker processes too; what the user has set stays.

    Source: PyTorch pull request 107697.
    """
    if LARGE_PAGES.exists():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag that a loop asks for between steps; a second one interrupts."""
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: signals go elsewhere
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
