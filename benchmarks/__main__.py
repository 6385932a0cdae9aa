"""The command: measure each stage, alone or against another revision, and write tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import FACTORS, QUICK, QUICK_BASE, Case, cases_of, distinct
from t4g_tracker.commands.arguments import path_text
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser, whole
from t4g_tracker.commands.printing import say
from t4g_tracker.errors import TrackerError

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- benchmarks begin -->", "<!-- benchmarks end -->"
TREE = "this tree"  # in tables and in the file of results, beside another revision


@dataclass(frozen=True)
class Request:
    """Arguments of the command."""

    quick: bool
    only: list[str]
    factors: dict[str, Sequence[Any]]
    base: Case
    devices: list[str]
    steps: int
    repeats: int
    against: str | None
    assignments: list[str]
    out: Path
    fresh: bool
    into: Path | None


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    request = _parse(argv)
    from benchmarks.revision import checked_out, commit_of

    groups = cases_of(request.base, request.factors, request.devices or _devices())
    if request.only:
        groups = {name: cases for name, cases in groups.items() if name in request.only}
    if request.against is None:
        text, whole = _measured(request, groups)
    else:
        commit = commit_of(ROOT, request.against)
        with checked_out(ROOT, commit, request.out) as other:
            text, whole = _compared(request, groups, commit[:12], other)
    report = request.out / ("against.md" if request.against else "report.md")
    report.write_text(text, encoding="utf-8")
    say(f"{text}\nwritten to {report}")
    if request.into is not None:
        _put_into(request.into, text)
    return 0 if whole else 1


def _measured(request: Request, groups: dict[str, list[Case]]) -> tuple[str, bool]:
    """Measure the cases with this tree: tables of them, and whether all could be measured."""
    from benchmarks.report import growth, table
    from benchmarks.results_file import ResultsFile

    circumstances = _circumstances(request)
    results = ResultsFile.open(request.out / "results.jsonl", circumstances, request.fresh)
    whole = _run(request, distinct(groups), results, {"": ROOT})
    parts = [_heading(request), table(distinct(groups), results)]
    fitted = growth(groups, results)
    if fitted:
        parts += ["Fitted exponents (1: time is linear):", fitted]
    return "\n\n".join(parts) + "\n", whole


def _compared(request: Request, groups: dict[str, list[Case]], commit: str, other: Path) -> tuple[str, bool]:
    """Measure the cases with another revision and this tree in turn: their ratios, and whether all were."""
    from benchmarks.report import ratios, table
    from benchmarks.results_file import ResultsFile

    circumstances = {**_circumstances(request), "against": commit}
    results = ResultsFile.open(request.out / "against.jsonl", circumstances, request.fresh)
    cases = distinct(groups)
    whole = _run(request, cases, results, {commit: other, TREE: ROOT})
    parts = [
        _heading(request),
        f"Medians of {TREE} over those of {commit}, run in turn (below 1: this tree takes less):",
        ratios(cases, results, commit, TREE),
        f"{commit}:",
        table(cases, results, commit),
        f"{TREE}:",
        table(cases, results, TREE),
    ]
    return "\n\n".join(parts) + "\n", whole


def _run(request: Request, cases: list[Case], results: Any, trees: dict[str, Path]) -> bool:
    """Measure what is missing; with two trees in turn, so that a busy machine slows both alike.

    Returns:
        Whether all runs succeeded; a case that fails is left out, and named at the end.
    """
    from benchmarks.measuring import measure

    work = request.out / "clips"
    work.mkdir(parents=True, exist_ok=True)
    failed = set[str]()
    for case in cases:
        for repeat in range(request.repeats):
            for side, tree in reversed(trees.items()) if repeat % 2 else trees.items():
                if len(results.of(case, side)) > repeat or case.name in failed:
                    continue
                say(f"{case.name}: run {repeat + 1} of {request.repeats}{side and f', {side}'}", end=" ")
                try:
                    found = measure(case, tree, work, request.steps, request.assignments)
                except TrackerError as error:
                    say(f"\n{error}")
                    failed.add(case.name)
                    continue
                results.add(case, side, found)
                say(f"{found.wall_seconds:.1f} s, {found.peak_mb / 1024:.1f} GB")
    if failed:
        say(f"not measured: {'; '.join(sorted(failed))}")
    return not failed


def _circumstances(request: Request) -> dict[str, Any]:
    """What all measurements of one table share."""
    from benchmarks.report import machine
    from benchmarks.revision import code_of

    code = code_of(ROOT)
    return {"machine": machine(), "code": code, "steps": request.steps, "settings": request.assignments}


def _heading(request: Request) -> str:
    from benchmarks.report import load, machine

    settings = "".join(f", {assignment}" for assignment in request.assignments)
    return (
        f"{machine()}. Medians of {request.repeats}, seconds; {request.steps} adaptation steps{settings}. "
        f"Load of the machine in the last minute: {load()}."
    )


def _devices() -> list[str]:
    """The CPU, and a GPU if there is one."""
    import torch

    return ["cpu", *["cuda"] * torch.cuda.is_available()]


def _put_into(page: Path, text: str) -> None:
    """Replace what is between the two marks of a page.

    Raises:
        TrackerError: If the page has no marks.
    """
    before, mark, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise TrackerError(f"{page}: has no lines {BEGIN} and {END}; add them where the tables belong")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def _parse(argv: list[str] | None) -> Request:
    parser = Parser(
        prog="python -m benchmarks",
        description="Measure seconds and memory of each stage on synthetic clips, one factor at a time from "
        "a base case, every run in a fresh process. Called again, it goes on where it was.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a few small cases, one run each: a minute or two")
    add("--only", nargs="+", choices=list(FACTORS), default=[], help="these factors alone")
    add("--frames", type=_numbers, metavar="N,N", help="lengths (default 25,50,100,200,400)")
    add("--points", type=_numbers, metavar="N,N", help="query points (default 10,100,1000,10000)")
    add("--channels", type=_numbers, metavar="N,N", help="of patch features (default 64,128,640)")
    add("--size", type=_sizes, metavar="HxW,HxW", help="of the video (default 320x576,480x832)")
    add("--base", type=_base, metavar="FRAMES,POINTS,HxW", help="the base case (default 50,100,480x832)")
    add(
        "--device",
        dest="devices",
        nargs="+",
        default=[],
        help="devices (default: cpu, and cuda if there is one)",
    )
    add("--steps", type=whole(1, 10**6), default=20, help="adaptation steps of a run (default 20)")
    add("--repeats", type=whole(1, 100), help="runs of each case, whose median counts (default 3)")
    add("--against", metavar="REVISION", help="a git revision to run in turn with this tree")
    add(
        "--set",
        dest="assignments",
        nargs="+",
        action="extend",
        default=[],
        metavar="STAGE.SETTING=VALUE",
        help="settings of all runs, as in t4g track",
    )
    add(
        "--out",
        type=path_text,
        default=Path("outputs/benchmarks"),
        help="folder (default outputs/benchmarks)",
    )
    add("--fresh", action="store_true", help="measure everything again")
    add("--into", type=path_text, metavar="PAGE", help=f"also put the tables between {BEGIN} and {END} there")
    given = vars(parser.parse(argv))
    own = {name: given.pop(name) for name in FACTORS}
    quick = given["quick"]
    factors = {name: own[name] or (QUICK if quick else FACTORS)[name] for name in FACTORS}
    given["base"] = given["base"] or (QUICK_BASE if quick else Case())
    given["repeats"] = given["repeats"] or (1 if quick else 3)
    given["out"] = given["out"].absolute()
    return Request(factors=factors, **given)


def _numbers(text: str) -> tuple[int, ...]:
    """Parse whole numbers of at least 1 between commas."""
    if not all(part.isdecimal() and int(part) for part in text.split(",")):
        raise argparse.ArgumentTypeError(
            f"must be whole numbers with commas between, such as 25,50, got {text}"
        )
    return tuple(int(part) for part in text.split(","))


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Parse HEIGHTxWIDTH between commas."""
    sizes = [part.split("x") for part in text.split(",")]
    if not all(len(size) == 2 and all(side.isdecimal() for side in size) for size in sizes):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, such as 320x576, got {text}")
    return tuple((int(height), int(width)) for height, width in sizes)


def _base(text: str) -> Case:
    """Parse FRAMES,POINTS,HEIGHTxWIDTH."""
    frames, points, size = [*text.split(","), "", "", ""][:3]
    if text.count(",") != 2 or not (frames.isdecimal() and points.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"must be frames, points and size, such as 50,100,480x832, got {text}"
        )
    return replace(Case(), frames=int(frames), points=int(points), size=_sizes(size)[0])


if __name__ == "__main__":
    sys.exit(main())
