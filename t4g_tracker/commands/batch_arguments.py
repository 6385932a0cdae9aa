"""Arguments of the commands that run over many clips."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t4g_tracker.batch.machines import Machines
from t4g_tracker.choices import QueryMode
from t4g_tracker.commands.arguments import RunRequest, add_common_arguments, path_text
from t4g_tracker.commands.parser import Parser, whole


@dataclass(frozen=True)
class BatchRequest(RunRequest):
    """Arguments of every command that runs over many clips."""

    mode: QueryMode
    out: Path
    overlays: bool
    workers: int
    threads: int
    ray: str

    @property
    def machines(self) -> Machines:
        return Machines(self.workers, self.threads, self.ray)


def add_batch_arguments(parser: Parser, out: Path) -> None:
    parser.add_argument(
        "--mode", choices=("strided", "first"), help="query mode of TAP-Vid's tracks (default strided)"
    )
    parser.add_argument("--out", type=path_text, default=out, help="folder for results (default %(default)s)")
    parser.add_argument(
        "--no-overlays", dest="overlays", action="store_false", help="write no videos of the tracks"
    )
    parser.add_argument(
        "--workers",
        type=whole(0, 1000),
        default=0,
        help="clips measured at once, each in its own process (default 0: as cores, GPUs and memory allow)",
    )
    parser.add_argument(
        "--threads", type=whole(1, 1000), default=1, help="processor cores for each clip (default 1)"
    )
    parser.add_argument(
        "--ray",
        default="",
        metavar="ADDRESS",
        help="measure on a Ray cluster: its address, auto, or local (needs Ray: pip install -e '.[cluster]')",
    )
    add_common_arguments(parser)


def with_mode(arguments: argparse.Namespace) -> dict[str, Any]:
    """Arguments by name, with ``--mode`` strided unless given."""
    return {**vars(arguments), "mode": arguments.mode or "strided"}
