"""Pages are right about the program: links resolve, commands parse, settings and imports exist."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import runpy
import shlex
import textwrap
from pathlib import Path

import pytest

from t4g_tracker.__main__ import COMMANDS
from t4g_tracker.commands.weights import models
from t4g_tracker.config import GONE, MOVED, read_settings
from t4g_tracker.pipeline import Config
from t4g_tracker.training.flow.settings import FlowTraining
from t4g_tracker.training.track4gen.settings import (
    AutoencoderTraining,
    MinisTraining,
    Track4GenTraining,
)

ROOT = Path(__file__).parents[1]
FILES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
FILES += [*ROOT.glob("docs/*.md"), *ROOT.glob("assets/weights/**/*.md")]
PAGES = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in sorted(FILES)}
RUNS = {  # commands by the settings that --set of each changes, if any
    **dict.fromkeys(("track", "davis", "bench", "compare-features"), Config),
    "train-flow": FlowTraining,
    "train-autoencoder": AutoencoderTraining,
    "train-track4gen": Track4GenTraining,
    "train-minis": MinisTraining,
    **dict.fromkeys(
        (
            "weights",
            "generate",
            "bench-flow",
            "fit-readout",
            "paint-strip",
            "make-synthetic-val",
            "study",
            "gallery",
            "video-metrics",
        )
    ),
}
SUFFIXES = ("py", "md", "yaml", "json", "jsonl", "npz", "csv", "png", "mp4")


def blocks(text: str, *languages: str) -> list[str]:
    """The code blocks of a page in some languages, "" for those without a name."""
    found = re.findall(r"^([ ]*)```(\w*)\n(.*?)^\1```$", text, re.M | re.S)
    return [textwrap.dedent(block) for _, language, block in found if language in languages]


def anchors(text: str) -> set[str]:
    """What a link can name behind # in a page, as GitHub makes it from headings."""
    prose = re.sub(r"^[ ]*```.*?^[ ]*```$", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ +(.+?) *$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lines_of(block: str) -> list[list[str]]:
    """The words of each command line of a block, with continued lines joined and variables filled in."""
    found, variables, begun = [], {}, ""
    for line in block.replace("\\\n", " ").splitlines():
        begun += f"{line} "
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:  # the quotation ends in a later line
            continue
        if len(words) == 1 and "=" in words[0]:
            name, value = words[0].split("=", 1)
            variables[f"${name}"] = value
        elif any(variable in begun for variable in variables):
            for variable, value in variables.items():
                begun = begun.replace(variable, value)
            words = shlex.split(begun, comments=True)
        found.append(words)
        begun = ""
    assert not begun, f"a quotation is not closed: {begun}"
    return found


def commands(text: str) -> list[list[str]]:
    """The words of every command of a page, from the subcommand on; within prose, those with options."""
    inline = re.findall(r"`((?:t4g|python run_tracker\.py) [^`]* --[^`]*)`", text)
    found = []
    for block in [*blocks(text, "", "bash"), *(line.replace("\n", " ") for line in inline)]:
        for words in lines_of(block):
            if "run_tracker.py" in words:
                words = ["track", *words[words.index("run_tracker.py") + 1 :]]
            start = next((at for at, word in enumerate(words) if word in COMMANDS), None)
            if start is None:
                continue
            found.append(["davis" if "--davis" in words else words[start], *words[start + 1 :]])
    return found


CASES = [(page, words) for page, text in PAGES.items() if page != "CHANGELOG.md" for words in commands(text)]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_the_pages_show_every_command():
    assert {words[0] for _, words in CASES} == RUNS.keys() == COMMANDS.keys() | {"davis"}


@pytest.mark.parametrize(
    ("page", "words"), CASES, ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60]
)
def test_a_command_parses_and_its_settings_exist(page, words):
    name, *arguments = words
    module = importlib.import_module(f"t4g_tracker.commands.{name.replace('-', '_')}")
    parse = getattr(module, f"parse_{name.partition('-')[0]}", None) or module._parse
    if name == "weights":
        parse(arguments, [model.name for model in models()])
        return
    request = parse(arguments)
    if name == "bench-flow":
        module._methods(request.assignments)
    elif RUNS[name] is not None:
        for assignments in module.varied(request.vary).values() if name == "bench" else ():
            read_settings(Config(), None, assignments)
        read_settings(RUNS[name](), None, request.assignments)


def leaves(settings: object, prefix: str = "") -> set[str]:
    """Dotted names of all settings and groups of settings."""
    found = set()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        found.add(f"{prefix}{field.name}")
        if dataclasses.is_dataclass(value):
            found |= leaves(value, f"{prefix}{field.name}.")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_a_page_names_exist(page):
    known = set().union(*(leaves(settings()) for settings in RUNS.values() if settings))
    known |= {*MOVED, *GONE} if page == "CHANGELOG.md" else set()
    groups = {name.partition(".")[0] for name in known if "." in name}
    spans = re.findall(r"`([^`\n]+)`", PAGES[page])
    for span in spans:
        if span.startswith("--set "):
            read_settings(Config(), None, span.split()[1:])
    named = {word.partition("=")[0] for span in spans for word in span.split()}
    named |= set(re.findall(r"(?<![\w./-])([a-z]\w*(?:\.\w+)+)=", PAGES[page]))
    for name in named:
        group, _, rest = name.partition(".")
        if rest and group in groups and rest.rpartition(".")[2] not in SUFFIXES:
            assert name in known, name


def test_the_figure_of_the_training_is_what_its_script_draws():
    drawn = runpy.run_path(str(ROOT / "docs" / "objectives.py"))["picture"]()
    assert (ROOT / "docs" / "objectives.svg").read_text(encoding="utf-8") == drawn


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if blocks(text, "python")])
def test_what_a_page_imports_exists(page):
    for block in blocks(PAGES[page], "python"):
        for statement in ast.walk(ast.parse(block)):
            if isinstance(statement, ast.ImportFrom):
                module = importlib.import_module(statement.module)
                assert all(hasattr(module, alias.name) for alias in statement.names), statement.module
