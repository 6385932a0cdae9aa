"""Training commands start quickly and say only what is theirs to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import save_tiny_svd
from tiny_runs import TINY_TRAINING

ROOT = Path(__file__).parents[2]
LARGE = "torchvision", "diffusers", "transformers", "accelerate", "huggingface_hub"
HEAVY = "torch", "numpy", "cv2", "PIL", *LARGE
COMMANDS = [
    "train-autoencoder",
    "train-track4gen",
    "train-flow",
    "train-minis",
    "bench-flow",
    "make-synthetic-val",
    "fit-readout",
    "paint-strip",
    "generate",
    "weights",
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_no_library(command):
    program = f"""
import contextlib, sys
from t4g_tracker.__main__ import main
with contextlib.suppress(SystemExit):
    main(["{command}", "--help"])
print([name for name in {HEAVY} if name in sys.modules])
"""
    printed = run("-c", program).stdout.splitlines()
    assert printed[0].startswith(f"usage: t4g {command}")
    assert printed[-1] == "[]"


def test_libraries_that_are_loaded_after_the_arguments_print_nothing(tmp_path):
    """Diffusers has a line about every model that is saved in half precision."""
    save_tiny_svd(tmp_path / "svd")
    where = ["--from", str(tmp_path / "svd"), "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"]
    settings = [*TINY_TRAINING, "trainer.steps=1"]
    done = run("-m", "t4g_tracker", "train-track4gen", *where, "--set", *settings)
    lines = (done.stdout + done.stderr).splitlines()
    assert [line.split()[0] for line in lines] == ["model", "step"]  # the result, and the log of progress
