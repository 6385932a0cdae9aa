"""``t4g make-synthetic-val FOLDER``: write the project's own benchmark."""

from __future__ import annotations

import argparse

from t4g_tracker.commands.arguments import path_text
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser
from t4g_tracker.synthetic.settings import ValConfig


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    request = _parse(argv)
    config = ValConfig(clips=request.clips, first=request.first, frames=request.frames, size=request.size)

    from t4g_tracker.synthetic.benchmark import make_val

    make_val(request.folder, config)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    default = ValConfig()
    parser = Parser(
        prog="t4g make-synthetic-val",
        description="Write the project's own benchmark, synthetic-val: held-out synthetic clips, in the "
        "layout that t4g bench --data FOLDER reads.",
    )
    parser.add_argument("folder", type=path_text, help="where to write the benchmark")
    parser.add_argument(
        "--clips", type=int, default=default.clips, help="number of clips (default %(default)s)"
    )
    parser.add_argument(
        "--first",
        type=int,
        default=default.first,
        help="number of the first clip; from 8 on they are others than the benchmark's (default %(default)s)",
    )
    parser.add_argument(
        "--frames", type=int, default=default.frames, help="of each clip (default %(default)s)"
    )
    height, width = default.size
    parser.add_argument(
        "--size", type=_size, default=default.size, help=f"HEIGHTxWIDTH (default {height}x{width})"
    )
    return parser.parse(argv)


def _size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, such as 480x854, got {text}")
    return int(height), int(width)
