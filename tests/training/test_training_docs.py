"""Commands in the training docs and the model cards parse, their settings exist, and so do imports."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import textwrap
from pathlib import Path

import pytest

from t4g_tracker.config import read_settings
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.training.flow.settings import FlowTraining
from t4g_tracker.training.track4gen.settings import AutoencoderTraining, Track4GenTraining

ROOT = Path(__file__).parents[2]
PAGES = ["docs/training.md", "assets/weights/raft-mini.md", "assets/weights/track4gen-mini/README.md"]
SETTINGS = {
    "train-flow": FlowTraining,
    "bench-flow": FlowConfig,
    "train-autoencoder": AutoencoderTraining,
    "train-track4gen": Track4GenTraining,
    "fit-readout": None,
    "paint-strip": None,
    "make-synthetic-val": None,
}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language, "" for commands."""
    found: list[list[str]] = []
    inside = None
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        fence = line.strip()
        if inside is None and fence.startswith("```"):
            inside = fence.removeprefix("```")
            found += [[]] if inside == language else []
        elif fence == "```":
            inside = None
        elif inside == language:
            found[-1].append(line)
    return [textwrap.dedent("\n".join(lines)) for lines in found]


def commands(page: str) -> list[list[str]]:
    """The words of every command in a page, from the subcommand on, with shell variables filled in."""
    found, variables = [], {}
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(r"`t4g ([^`]*--out[^`]*)`", text)
    for block in blocks(page, ""):
        lines += block.replace("\\\n", " ").splitlines()
    for line in lines:
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words = shlex.split(line, comments=True)
        if len(words) == 1 and "=" in words[0]:
            name, value = words[0].split("=", 1)
            variables[name] = value
            continue
        start = next((at for at, word in enumerate(words) if word in SETTINGS), None)
        if start is not None:
            found.append(words[start:])
    return found


CASES = [(page, words) for page in PAGES for words in commands(page)]
IMPORTS = [(page, block) for page in PAGES for block in blocks(page, "python")]


def test_the_pages_show_every_command_that_is_checked():
    assert {words[0] for _, words in CASES} == SETTINGS.keys()


@pytest.mark.parametrize(
    ("page", "words"), CASES, ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60]
)
def test_a_command_of_the_docs_parses_and_its_settings_exist(page, words):
    module = importlib.import_module(f"t4g_tracker.commands.{words[0].replace('-', '_')}")
    request = module._parse(words[1:])
    settings = SETTINGS[words[0]]
    if settings is FlowConfig:
        module._methods(request.assignments)
    elif settings is not None:
        read_settings(settings(), None, request.assignments)


@pytest.mark.parametrize(("page", "block"), IMPORTS)
def test_what_the_docs_import_exists(page, block):
    statements = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    assert statements
    for statement in statements:
        module = importlib.import_module(statement.module)
        assert all(hasattr(module, alias.name) for alias in statement.names)
