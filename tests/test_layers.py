"""Imports run one way, one module is the door to what learns, and importing does nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    [*ROOT.glob("t4g_tracker/**/*.py"), *ROOT.glob("adaptation/**/*.py"), ROOT / "run_tracker.py"]
)
DOOR = "t4g_tracker.pipeline"  # alone knows what learns
# With the commands, all that may import it.
FACES = {
    "t4g_tracker",
    "t4g_tracker.fitted",
    "t4g_tracker.api",
    "run_tracker",
}
WHAT_LEARNS_MAY_USE = {  # of t4g_tracker
    "choices",
    "coordinates",
    "datatypes",
    "errors",
    "hardware",
    "limits",
    "matching",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_of(path) for path in MODULES}


def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports, by a statement anywhere in it or by name in a string.

    A string counts where it names one of our modules, alone or before a colon: whatever is called
    with it will import that.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            found |= {name} if "." in name or name == "run_tracker" else set()
    return found & NAMES


def room(name: str) -> str:
    """The package or module below t4g_tracker."""
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_imports_go_through_one_door(path):
    name, imports = module_of(path), imported(path)
    learns = {other for other in imports if other.split(".")[0] == "adaptation"}
    if name != DOOR and not name.startswith("adaptation"):
        assert not learns, f"{name} imports what learns; only {DOOR} may"
    command = room(name) == "t4g_tracker.commands" or name == "t4g_tracker.__main__"
    if not command and name not in FACES:
        assert DOOR not in imports
    if not command and name != "run_tracker":
        assert not {other for other in imports if room(other) == "t4g_tracker.commands"}
    if name != "t4g_tracker.__main__":
        assert "run_tracker" not in imports


@pytest.mark.parametrize(
    "path", [path for path in MODULES if module_of(path).startswith("adaptation")], ids=module_of
)
def test_what_learns_builds_on_the_mathematics_alone(path):
    used = {other.split(".")[1] for other in imported(path) if other.startswith("t4g_tracker.")}
    assert used <= WHAT_LEARNS_MAY_USE


@pytest.mark.parametrize("path", sorted(ROOT.glob("t4g_tracker/generation/*.py")), ids=module_of)
def test_what_generates_needs_nothing_of_what_trains(path):
    assert not {other for other in imported(path) if room(other) == "t4g_tracker.training"}


@pytest.mark.parametrize(
    "hidden",
    [
        "def late():\n    if True:\n        from adaptation.loop import adapt\n",
        "import adaptation.loop as friendly\n",
        "from adaptation import loop\n",
        'COMMANDS = {"fit": ("adaptation.loop:adapt", "words")}\n',
        'importlib.import_module("adaptation.loop")\n',
    ],
)
def test_the_check_sees_an_import_wherever_it_hides(tmp_path, hidden):
    (tmp_path / "module.py").write_text(hidden)
    assert "adaptation.loop" in imported(tmp_path / "module.py")


def test_the_check_takes_settings_for_no_import(tmp_path):
    (tmp_path / "module.py").write_text('message = "adaptation.steps must be at least 1"\n')
    assert not imported(tmp_path / "module.py")


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LARGE = "torchvision", "diffusers", "transformers", "accelerate", "matplotlib", "ray"
HEAVY = "torch", "numpy", "cv2", *LARGE


def test_importing_the_package_loads_no_library():
    assert run(f"import sys, t4g_tracker\nprint([name for name in {HEAVY} if name in sys.modules])") == "[]"


@pytest.mark.parametrize(
    "command",
    ["track", "bench", "compare-features", "--davis", "train-track4gen", "video-metrics", "weights"],
)
def test_help_loads_no_library(command):
    call = ["track", "--davis", "x"] if command == "--davis" else [command]
    program = f"""
import contextlib, io, sys
from t4g_tracker.__main__ import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main({[*call, "--help"]!r})
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert run(program) == "[]"


def test_checking_the_default_features_loads_no_library_of_models():
    """A run that finds its features cached needs no more, and diffusers takes seconds to import."""
    program = f"""
import sys
from t4g_tracker.features.extractor import check_features
from t4g_tracker.features.settings import FeaturesConfig
assert check_features(FeaturesConfig())
print([name for name in {LARGE} if name in sys.modules])
"""
    assert run(program) == "[]"


def test_importing_the_library_changes_nothing_and_loads_no_library_of_one_choice():
    program = f"""
import os, random, signal, sys
import numpy, torch
mask = os.umask(0o077)
before = torch.get_rng_state(), numpy.random.get_state()[1].copy(), random.getstate()
handler, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
import t4g_tracker
for name in t4g_tracker.__all__:
    getattr(t4g_tracker, name)
assert torch.equal(torch.get_rng_state(), before[0])
assert (numpy.random.get_state()[1] == before[1]).all()
assert random.getstate() == before[2]
assert os.umask(mask) == 0o077
assert signal.getsignal(signal.SIGINT) is handler and torch.get_num_threads() == threads
assert not torch.cuda.is_initialized()
print([name for name in {LARGE} if name in sys.modules])
"""
    assert run(program) == "[]"


def test_the_library_loads_and_writes_where_no_module_or_name_of_unix_is(tmp_path):
    program = f"""
import os, sys
from pathlib import Path
import numpy, torch, psutil  # before these are gone
sys.modules.update(dict.fromkeys(["fcntl", "resource", "pwd", "grp", "termios"]))
for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "fork", "getuid", "sched_getaffinity"):
    vars(os).pop(name, None)
import t4g_tracker, run_tracker
for name in t4g_tracker.__all__:
    getattr(t4g_tracker, name)
from t4g_tracker.memory import free_memory
from t4g_tracker.storage.files import locked_folder, write_text
from t4g_tracker.storage.cache import Cache
with locked_folder(Path({str(tmp_path)!r})) as folder:
    write_text(folder / "text", "whole")
    cache = Cache.open(folder / "cache", fresh=False)
    cache.save("features", "key", {{"a": 1}})
print(cache.load("features", "key")["a"], free_memory() > 0, sorted(os.listdir(folder)))
"""
    assert run(program) == "1 True ['cache', 'text']"
