"""``t4g study make`` and ``t4g study tally``: ask people which generated videos they prefer."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from t4g_tracker.commands.arguments import path_text, seed_number
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser, whole
from t4g_tracker.commands.printing import say

MAKE, TALLY = "make", "tally"


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    request = _parse(argv)
    if request.action == MAKE:
        _make(request)
    else:
        _tally(request)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    arguments = sys.argv[1:] if argv is None else argv
    action = arguments[0] if arguments else ""
    parsers = {MAKE: _maker, TALLY: _counter}
    if action in parsers:
        request = parsers[action]().parse(arguments[1:])
        request.action = action
        return request
    parser = Parser(
        prog="t4g study",
        description="A page that asks people which of two generated videos they prefer, and what they "
        "answered. t4g study make --help and t4g study tally --help list the options.",
    )
    parser.add_argument("action", choices=sorted(parsers), help="make the page, or tally its answers")
    parser.parse(arguments)
    raise AssertionError("an action has a parser of its own, and anything else ends in this one")


def _maker() -> Parser:
    parser = Parser(
        prog="t4g study make",
        description="Write a page that shows pairs of generated videos, one of ours and one of a baseline, "
        "and asks which is better. It needs no server; publish OUT/page, and keep OUT/key.json to yourself.",
    )
    parser.add_argument(
        "--runs", type=path_text, required=True, help="folder of generated videos: IMAGE/MODEL/seed-N.mp4"
    )
    parser.add_argument("--ours", required=True, metavar="MODEL", help="the model in every pair")
    parser.add_argument(
        "--baselines", nargs="+", required=True, metavar="MODEL", help="the others, each as often"
    )
    parser.add_argument(
        "--pairs", type=whole(1, 1000), default=40, help="how many to show (default %(default)s)"
    )
    parser.add_argument(
        "--checks",
        type=whole(0, 100),
        default=2,
        help="how many attention checks of each kind: one video twice, and one spoilt (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="the same seed makes the same pairs (default 0)"
    )
    parser.add_argument("--out", type=path_text, default=Path("study"), help="folder (default %(default)s)")
    return parser


def _counter() -> Parser:
    parser = Parser(
        prog="t4g study tally",
        description="Count the answers that participants saved: preferences with 95 %% intervals, agreement, "
        "bias for one place, attention checks.",
    )
    parser.add_argument("answers", nargs="+", type=path_text, help="files that the page saved")
    parser.add_argument(
        "--key", type=path_text, default=Path("study/key.json"), help="of the study (default %(default)s)"
    )
    parser.add_argument(
        "--attentive-only", action="store_true", help="leave out who ever preferred a spoilt video"
    )
    parser.add_argument("--out", type=path_text, help="folder for tables (default: tally, beside the key)")
    return parser


def _make(request: argparse.Namespace) -> None:
    from t4g_tracker.outputs.generated import read_generated
    from t4g_tracker.storage.files import locked_folder
    from t4g_tracker.study.publishing import KEY, PAGE, write_study
    from t4g_tracker.study.trials import PAIR, choose_trials, warn_of_unlike

    generated = read_generated(request.runs)
    trials = choose_trials(
        generated, request.ours, request.baselines, request.pairs, request.checks, request.seed
    )
    warn_of_unlike(generated, trials)
    with locked_folder(request.out) as folder:
        write_study(folder, trials, request.ours, request.baselines, request.seed)
    pairs = sum(trial.kind == PAIR for trial in trials)
    checks = f" and {len(trials) - pairs} attention checks" if len(trials) > pairs else ""
    say(f"{pairs} pairs{checks}: publish {folder / PAGE}, keep {folder / KEY} to yourself")
    say(f"send each participant an address of their own: {folder / PAGE / 'index.html'}?participant=p01")


def _tally(request: argparse.Namespace) -> None:
    from t4g_tracker.errors import StudyError, warn
    from t4g_tracker.storage.files import prepare_output_folder, write_json, write_text
    from t4g_tracker.study.answers import read_answers, read_key
    from t4g_tracker.study.tally import (
        agreement_table,
        attentive,
        people_table,
        preference_table,
        tally,
        tally_record,
    )

    key = read_key(request.key)
    everyone = read_answers(request.answers, key)
    paying = [one for one in everyone if attentive(one, key)]
    careless = [one.name for one in everyone if one not in paying]
    if careless and not request.attentive_only:
        warn(f"{', '.join(careless)}: preferred a spoilt video; --attentive-only leaves such answers out")
    counted = paying if request.attentive_only else everyone
    if not counted:
        raise StudyError("nobody is left who never preferred a spoilt video; count all answers")
    result = tally(counted, key)
    tables = {
        "preferences": preference_table(result.preferences, key.ours),
        "agreement": agreement_table(result),
        "participants": people_table(result.people),
    }
    folder = prepare_output_folder(request.out or request.key.parent / TALLY)
    for name, table in tables.items():
        say("\n".join([*table.console(), ""]))
        write_text(folder / f"{name}.csv", table.csv())
    text = "\n".join(f"## {name.capitalize()}\n\n{table.markdown()}" for name, table in tables.items())
    left_out = careless if request.attentive_only else []
    write_text(folder / "tally.md", text)
    write_json(folder / "tally.json", {"study": key.study, "left_out": left_out, **tally_record(result)})
    say(f"tables are in {folder}")
