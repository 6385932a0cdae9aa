"""Give the command line damaged files of every kind, and see that it reads or refuses each in one line.

    python tests/fuzz_inputs.py --examples 200

``make fuzz`` does the same. Files that made a fault are kept, with those beside them. ``tests/test_fuzz.py``
runs it with fewer examples.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_kinds import MODEL_NAMES, NAMES, Kind, kind_of

ROOT = Path(__file__).parents[1]
SECONDS = 20  # no file takes longer
MEGABYTES = 2000  # nor more memory, all in all
FIRST_SECONDS = 300  # for the libraries to load, on a machine with other work


@dataclass
class Figures:
    """What came of the files of one kind."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)  # accepted, refused, or a fault
    unchanged: int = 0  # accepted with the frames of the valid file
    warned: int = 0  # accepted with a warning
    slowest_s: float = 0.0
    peak_mb: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def examples(self) -> int:
        return self.outcomes.total()

    def line(self) -> list[str]:
        faults = self.examples - self.outcomes["accepted"] - self.outcomes["refused"]
        named = ", ".join(
            f"{count} {name}" for name, count in self.outcomes.items() if name not in ("accepted", "refused")
        )
        figures = (
            self.examples,
            self.outcomes["accepted"],
            self.unchanged,
            self.warned,
            self.outcomes["refused"],
        )
        return [
            self.kind,
            *map(str, figures),
            f"{faults}{f' ({named})' if named else ''}",
            f"{self.slowest_s:.1f}",
            f"{self.peak_mb:.0f}",
        ]


class Reader:
    """The process that reads; it is started again if it hangs or crashes."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, arguments: list[str]) -> dict[str, Any]:
        """Give it the arguments of a command; its answer, or how it ended."""
        if self._process is None:
            self._start()
        return self._ask(arguments, SECONDS)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fuzz_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
        )
        with tempfile.TemporaryDirectory() as folder:
            sound = kind_of("folder of png")
            answer = self._ask(sound.write(Path(folder), sound.valid), FIRST_SECONDS)
        assert answer.get("code") == 0, answer

    def _ask(self, arguments: list[str], seconds: float) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(arguments).encode() + b"\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            came = bool(selector.select(seconds))
        line = process.stdout.readline() if came else b""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = process.wait() if came else None
        self.stop()
        return {
            "crashed" if came else "hangs": True,
            "code": code,
            "printed": "",
            "seconds": seconds,
            "peak_mb": 0,
        }


def judged(answer: dict[str, Any]) -> str:
    """Name what came of a file: accepted, refused, or a fault."""
    lines = answer["printed"].splitlines()
    errors = [line for line in lines if not line.startswith("warning: ")]
    if "hangs" in answer:
        return "hangs"
    if "crashed" in answer:
        return "crash"
    if "trace" in answer:
        return "traceback"
    if answer["peak_mb"] > MEGABYTES:
        return "memory"
    if answer["code"] == 0:
        return "other lines" if errors else "accepted"
    if answer["code"] != 2:
        return "other code"
    return "refused" if len(errors) == 1 and errors[0].startswith("error: ") else "other lines"


def fuzz(kind: Kind, examples: int, reader: Reader, kept: Path, seed: int | None = None) -> Figures:
    """Read damaged files of one kind.

    Args:
        kind: Which.
        examples: How many.
        reader: Reads them.
        kept: Folder for the files of faults.
        seed: Another gives other files; None: always the same.
    """
    figures = Figures(kind.name)
    folder = Path(tempfile.mkdtemp())
    sound = reader.read(kind.write(folder, kind.valid))
    assert judged(sound) == "accepted", f"{kind.name}: the valid file is not read: {sound}"

    @settings(
        max_examples=examples,
        derandomize=seed is None,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.damage)
    def each(data: bytes) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        answer = reader.read(kind.write(folder, data))
        outcome = judged(answer)
        figures.outcomes[outcome] += 1
        figures.slowest_s = max(figures.slowest_s, answer["seconds"])
        figures.peak_mb = max(figures.peak_mb, answer["peak_mb"])
        figures.unchanged += outcome == "accepted" and answer["digest"] == sound["digest"]
        figures.warned += outcome == "accepted" and bool(answer["printed"])
        if outcome not in ("accepted", "refused"):
            place = kept / f"{kind.name.replace(' ', '-')}-{outcome.replace(' ', '-')}-{figures.examples}"
            shutil.copytree(folder, place, dirs_exist_ok=True)
            figures.faults.append(
                f"{kind.name}: {outcome}, see {place}\n{answer.get('trace', '')}{answer['printed']}"
            )

    try:
        (each if seed is None else hypothesis.seed(seed)(each))()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return figures


HEADER = ("kind", "examples", "accepted", "unchanged", "warned", "refused", "faults", "slowest s", "peak MB")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=200, help="of each kind (default 200)")
    every = (*NAMES, *MODEL_NAMES)
    parser.add_argument("--kinds", nargs="+", choices=every, default=every, help="only these")
    parser.add_argument("--seed", type=int, help="other files than always")
    parser.add_argument(
        "--kept", type=Path, default=ROOT / "outputs" / "fuzz", help="folder for the files of faults"
    )
    request = parser.parse_args(argv)
    from t4g_tracker.tables import Table

    reader, rows, faults = Reader(), [], []
    try:
        for name in request.kinds:
            figures = fuzz(kind_of(name), request.examples, reader, request.kept, request.seed)
            rows.append(figures.line())
            faults += figures.faults
            print("\n".join([*figures.faults, " | ".join(figures.line())]), flush=True)
    finally:
        reader.stop()
    print("\n".join(Table(HEADER, rows).console()))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
