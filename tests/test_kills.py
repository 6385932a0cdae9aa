"""A run that is killed at any moment and started again ends as if nobody had touched it."""

import subprocess
import sys
from pathlib import Path


def test_killed_runs_resume_and_end_with_the_same_tracks_and_nothing_unfinished():
    command = [sys.executable, "-m", "tests.kill_runs", "--kills", "4", "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills 4" in done.stdout
