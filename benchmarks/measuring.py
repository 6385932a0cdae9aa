"""One measurement: one run of run_tracker.py in a fresh process, and what it says of itself.

Nothing else of a revision is used than its command line and its run.json, so that any revision that has
them can be measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.inputs import clip_file, points_file
from t4g_tracker.errors import TrackerError

STAGES = ("features", "flow", "trajectories", "adaptation", "query_flow", "tracking", "outputs")


@dataclass(frozen=True)
class Measurement:
    """Seconds and memory of one run."""

    seconds: dict[str, float]  # by stage; a stage that did not run is missing
    step_seconds: float  # median, of adaptation
    wall_seconds: float  # of the whole process
    peak_mb: float  # resident memory of the process at its highest

    @property
    def start_seconds(self) -> float:
        """What no stage accounts for: libraries, reading, checks."""
        return max(0.0, self.wall_seconds - sum(self.seconds.values()))

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def measure(case: Case, tree: Path, work: Path, steps: int, settings: list[str]) -> Measurement:
    """Run a case once with the code of a checkout; nothing is taken from a cache.

    Args:
        case: What to run.
        tree: The checkout, with run_tracker.py.
        work: Folder of clips and query points, which are made if they are missing.
        steps: Adaptation steps.
        settings: Further settings, in the form of ``--set``.

    Raises:
        TrackerError: If the run fails; the message is its own last line.
    """
    clip, points = clip_file(work, case.frames, case.size), points_file(work, case.points, case.size)
    chosen = [f"adaptation.steps={steps}", *settings]
    if case.channels:
        chosen += ["features.extractor=patch", f"features.patch.channels={case.channels}"]
        if "components:" in (tree / "configs" / "default.yaml").read_text(encoding="utf-8"):
            chosen.append("adaptation.components=0")  # earlier revisions keep all channels anyway
    with tempfile.TemporaryDirectory(prefix="run-", dir=work) as folder:
        places = ["--cache", f"{folder}/cache", "--out", f"{folder}/out"]
        words = ["--video", str(clip), "--first-frames", str(case.frames), "--queries", str(points)]
        words += [*places, "--device", case.device, "--quiet", "--set", *chosen]
        wall, code, peak, printed = _timed([sys.executable, str(tree / "run_tracker.py"), *words], tree)
        record = Path(folder) / "out" / "run.json"
        if code or not record.is_file():
            last = next((line for line in reversed(printed.splitlines()) if line.strip()), "no message")
            raise TrackerError(f"{case.name}: the run failed with exit code {code}; it said: {last}")
        run = json.loads(record.read_text(encoding="utf-8"))
    stages = run["stages"]
    seconds = {name: float(stage["seconds"]) for name, stage in stages.items()}
    peaks = [float(stage.get("peak_memory_mb", 0.0)) for stage in stages.values()]
    return Measurement(seconds, float(run["median_seconds_per_step"]), wall, max([peak, *peaks]))


def _timed(command: list[str], tree: Path) -> tuple[float, int, float, str]:
    """Run a command with the modules of ``tree``: wall seconds, exit code, peak in MB, what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryFile("w+", errors="replace") as printed:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=printed, stderr=subprocess.STDOUT
        )
        try:
            peak = _wait(process)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = time.perf_counter() - begin
        printed.seek(0)
        return wall, process.returncode, peak, printed.read()


def _wait(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; returns its peak resident memory in MB, 0 where the system does not tell."""
    if not hasattr(os, "wait4"):
        process.wait()
        return 0.0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
