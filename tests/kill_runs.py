"""Kill tiny runs at random moments, go on with each, and compare it with a run that nobody disturbed.

    python tests/kill_runs.py --kills 40            # some minutes on two cores
    python tests/kill_runs.py --kills 6 --seed 1    # other moments

Each run gets SIGKILL some times, and is then left to end. Half of the kills come at a random time, the
others within a random write, which a random time seldom hits. Exit code 1 if any run fails or ends with
other tracks, if half of a file has its final name, or if anything unfinished is left at the end.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # the optimiser loads it
from PIL import Image

import adaptation.loop
import run_tracker
from t4g_tracker import fitted, pipeline  # noqa: F401  loaded once: each run is a fork of this process
from t4g_tracker.errors import CacheError
from t4g_tracker.outputs import run_files  # noqa: F401
from t4g_tracker.outputs.track_files import read_tracks_npz
from t4g_tracker.storage.cache import Cache

FRAMES, HEIGHT, WIDTH = 6, 64, 96
KILLS_OF_A_RUN = 4  # at most
WRITES = 14  # within which a run may be killed; it has a few more
FAULTS = ("half files", "not resumed", "other tracks", "unfinished at the end")
SETTINGS = (
    "features.extractor=patch",
    "flow.method=dis",  # looking for RAFT would load libraries in every run
    "working_size.height=64",
    "working_size.width=128",
    "adaptation.steps=12",
    "adaptation.width=16",
    "adaptation.pairs_per_frame=32",
    "adaptation.snapshots=[6]",
    "adaptation.precision=float32",
    "outputs.progress=false",
)


def make_frames(folder: Path) -> None:
    """Write a texture that slides by 2 px a frame."""
    coarse = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH + 2 * FRAMES), mode="bicubic")[0]
    folder.mkdir()
    for index in range(FRAMES):
        frame = (texture[:, :, 2 * index : 2 * index + WIDTH].clamp(0, 1) * 255).byte().permute(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(frame.numpy())).save(folder / f"{index:03d}.png")


def start(frames: Path, folder: Path, kill_at_write: int | None = None) -> int:
    """Start a run in a process of its own; returns its number.

    Args:
        frames: Folder of frames.
        folder: For the run's cache and outputs.
        kill_at_write: The run kills itself while it waits for the file of this number to reach the disk.
    """
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        pipeline.adapt = functools.partial(adaptation.loop.adapt, save_every_s=0.0)  # a checkpoint each step
        if kill_at_write is not None:
            _kill_at_write(kill_at_write)
        os.dup2(os.open(folder.parent / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        places = ["--out", str(folder / "out"), "--cache", str(folder / "cache")]
        what = ["--video", str(frames), "--grid", "3", "--device", "cpu", "--quiet"]
        code = run_tracker.main([*what, *places, "--set", *SETTINGS])
    finally:
        os._exit(code)


def _kill_at_write(index: int) -> None:
    written, fsync = [], os.fsync

    def killing(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > index:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = killing


def finish(number: int) -> int:
    """Wait for a run to end; returns its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def damaged(folder: Path) -> list[str]:
    """Check all that has its final name; returns the names of files that are not whole."""
    bad = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.endswith(".partial") for part in path.parts):
            continue
        try:
            if path.suffix == ".pt":
                kind, _, key = path.stem.partition("-")
                Cache(path.parent).load(kind, key)
            elif path.suffix == ".npz":
                read_tracks_npz(path)
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.name != ".lock" and not path.stat().st_size:
                bad.append(path.name)
        except (CacheError, ValueError, OSError, KeyError) as error:
            bad.append(f"{path.name}: {error}")
    return bad


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name.endswith(".partial")]


def tracks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "out").glob("tracks.*")}


def kill_and_resume(frames: Path, root: Path, kills: int, chance: random.Random, took: float) -> Counter[str]:
    """Kill runs ``kills`` times in all, end each of them, and count what came of it.

    Args:
        frames: Folder of frames.
        root: Holds ``whole``, the folder of a run that nobody disturbed.
        kills: Signals in all.
        chance: Chooses the moments.
        took: Seconds of the undisturbed run.
    """
    counts: Counter[str] = Counter()
    while counts["kills"] < kills:
        counts["runs"] += 1
        folder = root / f"run-{counts['runs']}"
        folder.mkdir()
        for _ in range(min(chance.randint(1, KILLS_OF_A_RUN), kills - counts["kills"])):
            if chance.random() < 0.5:
                number = start(frames, folder, kill_at_write=chance.randrange(WRITES))
            else:
                number = start(frames, folder)
                time.sleep(chance.uniform(0, took))
                os.kill(number, signal.SIGKILL)
            killed = finish(number) == -signal.SIGKILL
            counts["kills"] += killed
            counts["ended before"] += not killed
            counts["left something unfinished"] += bool(unfinished(folder))
            counts["half files"] += len(damaged(folder))
        counts["not resumed"] += finish(start(frames, folder)) != 0
        counts["other tracks"] += tracks(folder) != tracks(root / "whole")
        counts["half files"] += len(damaged(folder))
        counts["unfinished at the end"] += len(unfinished(folder))
    return counts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kill tiny runs at random moments and resume them.")
    parser.add_argument("--kills", type=int, default=40, help="SIGKILLs in all (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    request = parser.parse_args(argv)
    torch.set_num_threads(1)  # threads do not survive a fork
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        frames = root / "frames"
        make_frames(frames)
        (root / "whole").mkdir()
        begin = time.perf_counter()
        if finish(start(frames, root / "whole")):
            print((root / "log.txt").read_text())
            return 1
        took = time.perf_counter() - begin
        counts = kill_and_resume(frames, root, request.kills, random.Random(request.seed), took)
        bad = sum(counts[name] for name in FAULTS)
        if bad:
            print((root / "log.txt").read_text())
    print(f"an undisturbed run takes {took:.1f} s")
    print("   ".join(f"{name} {count}" for name, count in counts.items()))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
