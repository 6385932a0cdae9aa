"""Imports run one way, and importing a module does nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = {"run_tracker", "pipeline"}
MODULES = sorted(
    [
        *ROOT.glob("t4g_tracker/**/*.py"),
        *ROOT.glob("adaptation/**/*.py"),
        *ROOT.glob("pipeline/*.py"),
        ROOT / "run_tracker.py",
    ]
)
PACKAGE = [path for path in MODULES if path.parts[len(ROOT.parts)] == "t4g_tracker"]
ADAPTATION = [path for path in MODULES if path.parts[len(ROOT.parts)] == "adaptation"]


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add((node.module or "").split(".")[0])
    return names


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_what_measures_a_video_does_not_know_what_learns_from_it(path):
    assert not imported(path) & {"adaptation", *COMMANDS}


@pytest.mark.parametrize("path", ADAPTATION, ids=name_of)
def test_what_learns_does_not_know_the_command_line(path):
    assert not imported(path) & COMMANDS
    source = path.read_text(encoding="utf-8")
    assert "t4g_tracker.command_line" not in source
    assert "t4g_tracker.tracking" not in source


def test_the_check_sees_an_import_wherever_it_hides(tmp_path):
    hidden = tmp_path / "module.py"
    hidden.write_text("def late():\n    if True:\n        from adaptation.loop import adapt\n")
    assert imported(hidden) == {"adaptation"}


def test_importing_everything_draws_nothing_and_loads_no_large_library():
    program = """
import random, sys
import numpy, torch
before = torch.get_rng_state(), numpy.random.get_state()[1].copy(), random.getstate()
import run_tracker
import pipeline.bench, pipeline.compare, pipeline.davis
assert torch.equal(torch.get_rng_state(), before[0])
assert (numpy.random.get_state()[1] == before[1]).all()
assert random.getstate() == before[2]
print([name for name in ("diffusers", "transformers", "accelerate") if name in sys.modules])
assert not torch.cuda.is_initialized()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
