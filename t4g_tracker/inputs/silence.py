"""Keeping the libraries below from printing: a refusal is one line, and ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def silent_libraries() -> Iterator[None]:
    """Drop what libraries in C print on standard error, such as libtiff's lines about damage.

    Damage that matters also raises. The descriptor is that of the whole process, so only its main thread
    may change it: others could not tell what to put back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
