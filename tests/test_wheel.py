"""An installed wheel: two names at the top of site-packages, and a package that other projects import."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("t4g_tracker", "adaptation")
PARTS = ("t4g_tracker", "adaptation", "assets", "configs")
FILES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "run_tracker.py",
    ".gitignore",
)  # builds leave out what git ignores

COLLEAGUE = """
import numpy as np
from t4g_tracker import Config, __version__, read_settings, track_points
import assets, configs, pipeline  # this project's own

frames = np.zeros((6, 64, 96, 3), np.uint8)
x, y = np.meshgrid(np.arange(96), np.arange(64))
for t in range(6):
    for c in range(3):
        wave = np.sin((x - 2 * t) / (3 + c)) + np.sin(y / (4 + c)) + np.sin((x - 2 * t + y) / 5)
        frames[t, ..., c] = 128 + 40 * wave
small = ["features.extractor=patch", "working_size.height=64", "working_size.width=128"]
config = read_settings(Config(), None, [*small, "adaptation.width=16"])
tracks = track_points(frames, [[0, 40, 30], [3, 50.5, 20]], steps=10, config=config)
assert np.abs(tracks.xy[0] - [[40 + 2 * t, 30] for t in range(6)]).max() < 1
assert (pipeline.MINE, configs.MINE, assets.MINE) == (1, 2, 3)
print(__version__, tracks.xy.shape, tracks.visibility.all())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "checkout"
    for name in PARTS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, copy], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder with the wheel installed, without what it depends on."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target"]
    subprocess.run([*install, folder, wheel], check=True, capture_output=True)
    return folder


@pytest.fixture
def run(site, tmp_path, monkeypatch):
    """Runs Python in an empty folder, where the installed copy is found before this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("T4G_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(*arguments):
        return subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    return call


def test_it_puts_two_names_at_the_top(site):
    found = {path.name for path in site.iterdir() if path.suffix != ".dist-info" and path.name != "bin"}
    assert found == {"t4g_tracker", "adaptation"}


def test_it_holds_every_module_every_setting_and_the_bundled_models(wheel):
    packed = {entry.filename: entry.file_size for entry in zipfile.ZipFile(wheel).infolist()}
    inside = [path for name in ("t4g_tracker", "adaptation") for path in (ROOT / name).rglob("*.py")]
    beside = [*(ROOT / "configs").glob("*.yaml"), ROOT / "run_tracker.py"]
    beside += [path for path in (ROOT / "assets" / "weights").rglob("*") if path.is_file()]
    assert len(beside) > 14
    for path in inside:
        assert packed[path.relative_to(ROOT).as_posix()] == path.stat().st_size
    for path in beside:
        assert packed[f"t4g_tracker/{path.relative_to(ROOT).as_posix()}"] == path.stat().st_size


def test_a_project_with_folders_of_the_same_names_can_import_it(run, site, tmp_path):
    for number, name in enumerate(("pipeline", "configs", "assets"), 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"MINE = {number}\n")
    (tmp_path / "main.py").write_text(COLLEAGUE)
    done = run("main.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("(2, 6, 2) True\n")
    assert done.stderr == ""
    where = run("-c", "import t4g_tracker, adaptation; print(t4g_tracker.__file__, adaptation.__file__)")
    assert where.stdout.split() == [
        str(site / name / "__init__.py") for name in ("t4g_tracker", "adaptation")
    ]


def test_its_settings_and_models_are_found(run, site):
    program = """
from t4g_tracker.bundled import CONFIGS, RAFT_MINI, TRACK4GEN_MINI
from t4g_tracker import Config, read_settings
from pathlib import Path
print(CONFIGS.parent, RAFT_MINI.is_file(), TRACK4GEN_MINI.is_dir())
print(read_settings(Config(), Path("short.yaml"), []).adaptation.steps)
"""
    done = run("-c", program)
    assert done.stdout.split() == [str(site / "t4g_tracker"), "True", "True", "600"], done.stderr


def test_its_pages_have_their_templates_styles_and_scripts(run):
    program = """
from t4g_tracker.pages.rendering import render_page
print(render_page("study.html", content={"questions": [], "trials": []}))
"""
    done = run("-c", program)
    assert done.returncode == 0, done.stderr
    for what in ("</html>", ".choices label", "function playTogether"):
        assert what in done.stdout


@pytest.mark.parametrize("command", ["track", "bench"])
def test_its_commands_run(run, command):
    done = run("-m", "t4g_tracker", command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
