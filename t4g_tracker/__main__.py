"""The ``t4g`` command: each subcommand is named here and imported only when it is called."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "track": ("run_tracker:main", "track points through a video (the same as run_tracker.py)"),
    "bench": ("t4g_tracker.commands.bench:bench", "measure accuracy and time on annotated clips"),
    "compare-features": (
        "t4g_tracker.commands.compare_features:compare_features",
        "show frozen features of several extractors side by side on one video",
    ),
    "train-autoencoder": (
        "t4g_tracker.commands.train_autoencoder:main",
        "train the mini model's autoencoder on synthetic clips",
    ),
    "train-flow": (
        "t4g_tracker.commands.train_flow:main",
        "train a small optical flow network on synthetic pairs of frames",
    ),
    "bench-flow": (
        "t4g_tracker.commands.bench_flow:main",
        "measure optical flow on synthetic pairs that no training sees",
    ),
    "train-track4gen": (
        "t4g_tracker.commands.train_track4gen:main",
        "train a video diffusion model whose features match points",
    ),
    "fit-readout": (
        "t4g_tracker.commands.fit_readout:main",
        "fit a trained UNet's last convolution anew for denoising",
    ),
    "paint-strip": (
        "t4g_tracker.commands.paint_strip:main",
        "paint what a video diffusion model makes of a video",
    ),
    "make-synthetic-val": (
        "t4g_tracker.commands.make_synthetic_val:main",
        "write a benchmark of synthetic clips",
    ),
    "weights": ("t4g_tracker.commands.weights:main", "list the models to choose from, and fetch them"),
}


def main(argv: list[str] | None = None) -> int:
    """Hand the arguments after the subcommand to its function; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in COMMANDS:
        module, function = COMMANDS[arguments[0]][0].split(":")
        code: int = getattr(importlib.import_module(module), function)(arguments[1:])
        return code
    print("usage: t4g COMMAND [options]\n")
    for name, (_, what) in COMMANDS.items():
        print(f"  t4g {name:<18} {what}")
    print("\nt4g COMMAND --help lists the options.")
    return 0 if arguments and arguments[0] in ("-h", "--help") else 2


if __name__ == "__main__":
    sys.exit(main())
