"""What a run records of itself in run.json: the command, the program, the video and the points."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from t4g_tracker import __version__
from t4g_tracker.datatypes import QueryPoints, Video
from t4g_tracker.inputs.frame_times import end_s
from t4g_tracker.outputs.result_folder import Facts

PACKAGES = ("t4g-tracker", "torch", "torchvision", "diffusers", "numpy", "opencv-python-headless", "av")


@dataclass(frozen=True)
class Call:
    """The command that a run was started by."""

    command: Sequence[str]  # word by word, as typed
    arguments: Mapping[str, Any]  # by name, as parsed
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def facts(self) -> dict[str, Any]:
        """What run.json says of the command and the program."""
        return {
            "command": shlex.join(self.command),
            "started": self.started.isoformat(timespec="seconds"),
            "version": __version__,
            "commit": commit_of(Path(__file__).parents[2]),
            "arguments": self.arguments,
        }


@dataclass(frozen=True)
class Destination:
    """Where the results of a run go, and what its record says of their origin."""

    folder: Path  # exists
    facts: Facts
    call: Call


def video_facts(video: Video, content: str, path: Path) -> dict[str, Any]:
    """What run.json says of a video; ``content`` is its ``content_hash``."""
    height, width = video.size
    return {
        "source": str(path.absolute()),
        "digest": content,
        "frames": video.frame_count,
        "width": width,
        "height": height,
        "fps": video.fps,
        "duration_s": round(end_s(video.times, video.frame_count, video.fps), 6),
        "pixel_aspect": video.pixel_aspect,
        "start_frame": video.start_frame,
    }


def points_facts(queries: QueryPoints, source: str) -> dict[str, Any]:
    """What run.json says of the query points."""
    return {"count": len(queries), "digest": points_hash(queries), "source": source}


def points_hash(queries: QueryPoints) -> str:
    """Hash frames, positions and names of query points: equal for equal points in equal order."""
    digest = hashlib.blake2b(digest_size=32)
    digest.update(np.ascontiguousarray(queries.frame.cpu().numpy().astype("<i8")).data)
    digest.update(np.ascontiguousarray(queries.xy.cpu().numpy().astype("<f4")).data)
    digest.update(json.dumps(queries.names).encode())
    return digest.hexdigest()


def machine_facts(seed: int, device: torch.device) -> dict[str, Any]:
    """What run.json says of the machine and of the libraries."""
    return {
        "seed": seed,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit_of(checkout: Path) -> str | None:
    """Read which git commit is checked out, without git; None if the folder is no checkout.

    Changes that are not committed do not show in it.
    """
    try:
        folder = checkout / ".git"
        if folder.is_file():  # of a further worktree, or of a submodule: "gitdir: PATH"
            folder = checkout / folder.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        common = folder / "commondir"
        shared = folder / common.read_text(encoding="utf-8").strip() if common.is_file() else folder
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        for place in (folder, shared):
            if (place / name).is_file():
                return (place / name).read_text(encoding="utf-8").strip()
        for line in (shared / "packed-refs").read_text(encoding="utf-8").splitlines():
            if line.endswith(f" {name}"):
                return line.split()[0]
    except (OSError, ValueError):
        pass
    return None
