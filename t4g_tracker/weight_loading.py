"""Loading weights from files that may be anything: nothing in them is run, and what is wrong is one line."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from t4g_tracker.errors import WeightsError, one_line, ran_out_of_memory


@contextmanager
def loading(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever goes wrong while a library loads weights, or a model by its config, into one line.

    Libraries may raise anything here: a text read as a pickle ends in KeyError, a config whose number is a
    text in TypeError. So load inside, and do nothing else.

    Args:
        what: The setting and the file or folder, for the message.
        remedy: What the user can do.

    Raises:
        WeightsError: For any error but one of ours.
    """
    try:
        with warnings.catch_warnings():  # PyTorch warns of pickles that it then refuses
            warnings.filterwarnings("ignore", module="torch")
            yield
    except WeightsError:
        raise
    except Exception as error:
        if ran_out_of_memory(error):
            remedy = "close other programs, or choose a smaller model"
        raise WeightsError(f"{what} cannot be loaded ({_reason(error)}); {remedy}") from error


def _reason(error: Exception) -> str:
    """Describe an error of a library in a few words."""
    causes: list[BaseException] = [error]
    while len(causes) < 9 and (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    said = " ".join(map(str, causes))
    named = re.search(r"GLOBAL ([\w.]+)", said)
    if named:
        return f"it names {named[1]}, which weights do not need and which could run code; nothing was run"
    pickled = any(isinstance(cause, pickle.UnpicklingError) for cause in causes)
    if pickled or "Weights only load failed" in said or type(error) in (KeyError, IndexError, EOFError):
        return "it is not a whole file of weights"
    if isinstance(error, OSError | ValueError | RuntimeError) and str(error):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)}"
