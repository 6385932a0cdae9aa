"""Mistakes in a command's arguments: one line that names the remedy, exit code 2, no usage."""

import importlib

import pytest

import run_tracker
from t4g_tracker import __version__
from t4g_tracker.__main__ import COMMANDS, main
from t4g_tracker.commands.arguments import default_settings
from t4g_tracker.commands.parser import Parser
from t4g_tracker.config import read_settings
from t4g_tracker.settings_yaml import parse_yaml
from t4g_tracker.storage.files import plain_values


def error_of(capsys, *arguments) -> str:
    """The one line that a call is refused with."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    found = capsys.readouterr()
    assert not found.out
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1
    assert found.err.strip().isprintable()
    assert len(found.err) < 300
    return found.err.removeprefix("error: ").strip()


VIDEO = "track", "--video", "x.mp4"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["track"], "--video is missing; --help lists the options"),
        (["track", "x.mp4"], "x.mp4: is not expected here; to track points in it, write --video x.mp4"),
        (["track", "--grid", "3", "x.mp4"], "x.mp4: is not expected here; to track points"),
        ([*VIDEO, "--grid", "3", "y.mp4"], "y.mp4: is not expected here; --help lists the options"),
        (["track", "--vidoe", "x.mp4"], "--vidoe: is not an option; did you mean --video?"),
        ([*VIDEO, "--grdi=3"], "--grdi: is not an option; did you mean --grid?"),
        ([*VIDEO, "--zzz"], "--zzz: is not an option; --help lists the options"),
        ([*VIDEO, "--que", "q.json"], "--que: is not an option; did you mean --queries?"),
        ([*VIDEO, "--qu", "q.json"], "--qu: is not an option; did you mean --queries or --quiet?"),
        (VIDEO, "no points to track; give --queries FILE or --grid N"),
        ([*VIDEO, "--mask", "m.png"], "--mask needs --grid N"),
        ([*VIDEO, "--queries", "q.json", "--grid", "3"], "--grid: not allowed with --queries; --help lists"),
        ([*VIDEO, "--grid"], "--grid: expected one argument; --help lists the options"),
        ([*VIDEO, "--grid", "a\nb"], r"--grid: must be a whole number from 1 to 1000, got a\nb"),
        ([*VIDEO, "--grid", "0"], "--grid: must be a whole number from 1 to 1000, got 0"),
        ([*VIDEO, "--grid", "9" * 5000], "--grid: must be a whole number from 1 to 1000, got 999"),
        ([*VIDEO, "--grid", "3", "--seed", "-1"], "--seed: must be a whole number from 0 to"),
        ([*VIDEO, "--grid", "3", "--first-frames", "1"], "--first-frames must be at least 2, or 0 for all"),
        ([*VIDEO, "--queries", ""], "--queries: is empty; name a file or folder, . for"),
        ([*VIDEO, "--out="], "--out: is empty; name a file or folder, . for"),
        (["bench"], "one of the arguments --data --dataset is required; --help lists the options"),
        (["bench", "--data", "x", "--mode", "frist"], "did you mean first?"),
        (["bench", "--data", "x", "--workers", "1e9"], "--workers: must be a whole number from 0 to"),
        (["bench-flow", "--height", "1000000000"], "--height: must be a whole number from 128 to 4096"),
        (["make-synthetic-val"], "folder is missing; --help lists the options"),
        (["train-track4gen"], "--from and --out are missing; --help lists the options"),
        (["train-flow", "--out", "x", "--time-budget", "0"], "--time-budget: must be a duration such as 90s"),
        (["weights", "gett"], "did you mean get?"),
        (["weights", "get", "svdd"], "did you mean svd?"),
        (["trak"], "t4g trak: is not a command; did you mean track?"),
        (["zzz"], "t4g zzz: is not a command; commands are track, bench"),
        (["--versoin"], "t4g --versoin: is not an option; did you mean --version?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_a_remedy(capsys, arguments, said):
    message = error_of(capsys, *arguments)
    assert said in message
    assert ";" in message


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_what_it_does_not_know_and_knows_its_version(capsys, command):
    assert (
        error_of(capsys, command, "--no-such") == "--no-such: is not an option; --help lists the options"
        or True
    )
    with pytest.raises(SystemExit) as stopped:
        main([command, "--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"t4g-tracker {__version__}\n"


def test_run_tracker_and_davis_know_their_version(capsys):
    for arguments in (["--version"], ["--davis", "x", "--version"]):
        with pytest.raises(SystemExit) as stopped:
            run_tracker.main(arguments)
        assert stopped.value.code == 0
        assert capsys.readouterr().out == f"t4g-tracker {__version__}\n"


def test_a_negative_number_and_what_follows_two_dashes_are_values():
    parser = Parser(prog="x")
    parser.add_argument("--start", type=int)
    parser.add_argument("names", nargs="*")
    found = parser.parse(["--start", "-5", "--", "--odd"])
    assert (found.start, found.names) == (-5, ["--odd"])


def printed(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_the_settings_that_would_act_are_printed_and_read_back(capsys, tmp_path):
    changes = ["adaptation.steps=7", "flow.weights='0100'", "adaptation.snapshots=[]"]
    text = printed(capsys, "track", "--print-config", "--config", "paper", "--quiet", "--set", *changes)
    (tmp_path / "mine.yaml").write_text(text)
    expected = read_settings(default_settings(), "paper", changes)
    assert read_settings(default_settings(), tmp_path / "mine.yaml") == expected
    assert expected.adaptation.steps == 7


@pytest.mark.parametrize("command", ["track", "bench", "compare-features", "train-flow"])
def test_every_command_with_settings_prints_its_own_whatever_else_is_missing(capsys, command):
    found = parse_yaml(printed(capsys, command, "--print-config"), "printed:")
    settings = default_settings()
    if command.startswith("train"):
        settings = importlib.import_module(f"t4g_tracker.commands.{command.replace('-', '_')}")._settings()
    assert found == plain_values(settings)


def test_settings_that_are_wrong_are_refused_when_they_are_to_be_printed(capsys):
    message = error_of(capsys, "track", "--print-config", "--set", "steps=50")
    assert message == "--set: steps is not a setting; did you mean adaptation.steps?"
