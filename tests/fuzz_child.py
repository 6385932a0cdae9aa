"""The process in which damaged files are read: the real command line, up to the fitting, in bounded memory.

It takes a list of arguments a line, as JSON, and answers with what came of it, a line each. So one process
reads many files, and may hang or crash without taking the test with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

MORE_MEMORY = 11 * 10**8  # bytes beyond what the program takes with a sound file: 2 GB in all are not reached
STATUS = Path("/proc/self/status")


class Read(BaseException):  # not an Exception, so that no code takes it for an error
    """Everything is read and checked."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__()
        self.facts = facts


def stop_at_the_fitting(clip: Any, config: Any, *_: Any) -> SimpleNamespace:
    """Load what the fitting needs, in place of it."""
    from t4g_tracker.features.extractor import extract_features
    from t4g_tracker.flow.estimator import check_flow
    from t4g_tracker.inputs.video import working_frames

    if config.flow.weights:
        check_flow(config.flow)
    if config.features.extractor != "patch":
        extract_features(working_frames(clip.video, clip.size)[:1], config.features, torch.device("cpu"), 0)
    return SimpleNamespace(clip=clip)


def stop_at_the_tracking(fitted: Any, queries: Any) -> None:
    """Look at what was read, and end the command."""
    from t4g_tracker.coordinates import inside
    from t4g_tracker.inputs.video import content_hash

    video = fitted.clip.video
    assert video.frames.dtype == "uint8"
    assert video.frames.ndim == 4
    assert video.frame_count >= 2
    assert video.frames.shape[3] == 3
    assert 0 < video.fps <= 1000
    assert len(queries) == len(set(queries.names)) > 0
    assert torch.isfinite(queries.xy).all()
    assert inside(queries.xy, video.size).all()
    assert ((queries.frame >= 0) & (queries.frame < video.frame_count)).all()
    for name in queries.names:
        name.encode()
    raise Read({"frames": video.frame_count, "digest": content_hash(video)})


def stop_at_the_clips(request: Any, job: Any, names: list[str], *_: Any) -> None:
    """Read every clip of a benchmark, and end the command."""
    clips = job.choice.open()
    for name in names:
        clip = job.choice.view.of(clips.load(name))
        job.choice.protocol.queries(clip)
    raise Read({"frames": len(names), "digest": ""})


def run(arguments: list[str]) -> dict[str, Any]:
    """Run the command line, and tell the exit code, the seconds and, if it came so far, what was read."""
    import run_tracker
    from t4g_tracker.__main__ import main as t4g

    begun = time.monotonic()
    outcome: dict[str, Any] = {}
    with warnings.catch_warnings():  # commands change what is shown, for good
        try:
            outcome["code"] = t4g(arguments) if arguments[0] == "bench" else run_tracker.main(arguments)
        except Read as read:
            outcome |= {"code": 0, **read.facts}
        except SystemExit as stopped:
            outcome["code"] = stopped.code
        except BaseException:
            outcome |= {"code": 1, "trace": traceback.format_exc()}
    return outcome | {"seconds": time.monotonic() - begun}


def forget_the_peak() -> None:
    with contextlib.suppress(OSError):  # elsewhere than on Linux
        Path("/proc/self/clear_refs").write_text("5")


def status(name: str) -> float:
    """A figure of this process in bytes; 0 elsewhere than on Linux."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return next((int(line.split()[1]) * 1024.0 for line in lines if line.startswith(f"{name}:")), 0.0)


def main() -> None:
    """Answer requests until there are none; what commands print goes to a file."""
    import run_tracker
    import t4g_tracker.commands.many_clips
    import t4g_tracker.fitted

    t4g_tracker.fitted.fit_clip = stop_at_the_fitting
    run_tracker.track_states = stop_at_the_tracking
    t4g_tracker.commands.many_clips.run_job = stop_at_the_clips
    with (
        os.fdopen(os.dup(1), "w") as answers,
        tempfile.TemporaryFile("w+b") as told,
        tempfile.TemporaryFile("w+b") as printed,
    ):
        os.dup2(told.fileno(), 1)  # libraries in C print to these, too
        os.dup2(printed.fileno(), 2)
        for number, request in enumerate(sys.stdin):
            for file in (told, printed):
                os.ftruncate(file.fileno(), 0)
                os.lseek(file.fileno(), 0, os.SEEK_SET)
            forget_the_peak()
            outcome = run(json.loads(request))
            sys.stdout.flush()
            sys.stderr.flush()
            if number == 0:  # a sound file: libraries are loaded
                most = int(status("VmData")) + MORE_MEMORY
                if most > MORE_MEMORY:
                    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
            text = os.pread(printed.fileno(), 10**6, 0).decode(errors="replace")
            answers.write(json.dumps({**outcome, "printed": text, "peak_mb": status("VmHWM") / 1e6}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
