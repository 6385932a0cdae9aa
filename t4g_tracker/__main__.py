"""The ``t4g`` command: subcommands are listed here, and imported only when called."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from t4g_tracker import __version__
from t4g_tracker.bundled import shipped
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.printing import say
from t4g_tracker.errors import ConfigError, shortened, suggestion

COMMANDS = {  # each is a module of commands/ with a ``main``, except track, which is run_tracker.py
    "track": "track points through a video",
    "bench": "measure accuracy and time on annotated clips",
    "compare-features": "show frozen features of several extractors side by side on one video",
    "generate": "generate videos from pictures by several models side by side, and track points in them",
    "video-metrics": "measure CLIPSIM, LPIPS and motion of videos, generated ones by model",
    "study": "ask people which generated videos they prefer, and count their answers",
    "gallery": "make a page of results: pictures, generated videos, failures found by rule",
    "weights": "list the models to choose from, and download them",
    "train-autoencoder": "train the mini model's autoencoder on synthetic clips",
    "train-track4gen": "train a video diffusion model whose features match points",
    "train-minis": "train four small models to compare: pretrained, finetuned, norefiner, track4gen",
    "fit-readout": "fit a trained UNet's last convolution to denoising again",
    "paint-strip": "paint what each part of a video diffusion model makes of a video",
    "train-flow": "train a small optical flow network on synthetic pairs of frames",
    "bench-flow": "measure optical flow on held-out synthetic pairs",
    "make-synthetic-val": "write a benchmark of synthetic clips",
}


def main(argv: list[str] | None = None) -> int:
    """Pass the arguments after the subcommand to its ``main``, and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        code: int = _module(name).main(arguments[1:])
        return code
    return guarded(_overview, arguments)


def _overview(arguments: list[str] | None) -> int:
    """Answer what is not a command: a request for version or help, or a mistake."""
    name = arguments[0] if arguments else ""
    if name in ("--version", "-V"):
        say(f"t4g-tracker {__version__}")
        return 0
    if name and name not in ("-h", "--help"):
        hint = suggestion(name, [*COMMANDS, "--version", "--help"], f"commands are {', '.join(COMMANDS)}")
        what = "an option" if name.startswith("-") else "a command"
        raise ConfigError(f"t4g {shortened(name)}: is not {what}; {hint}")
    say("usage: t4g COMMAND [options]\n")
    for command, what in COMMANDS.items():
        say(f"  t4g {command:<18} {what}")
    say("\nt4g COMMAND --help lists the options; t4g --version prints the version.")
    return 0 if name else 2


def _module(name: str) -> Any:
    """Import the module of a command."""
    if name != "track":
        return importlib.import_module(f"t4g_tracker.commands.{name.replace('-', '_')}")
    # run_tracker.py is not a module of the package: a wheel has it inside, a checkout beside the package
    spec = importlib.util.spec_from_file_location("run_tracker", shipped("run_tracker.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
