"""Files that come with the program: settings and small models.

``configs/``, ``assets/weights/`` and ``run_tracker.py`` are inside the package if it was installed from a
wheel, and beside it in a checkout; an editable install is a checkout.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from pathlib import Path

from t4g_tracker.errors import WeightsError


def shipped(name: str) -> Path:
    """Find what comes with the program: ``configs``, ``assets`` or ``run_tracker.py``."""
    package = Path(str(importlib.resources.files("t4g_tracker")))
    inside = package / name
    return inside if inside.exists() else package.parent / name


CONFIGS = shipped("configs")
WEIGHTS = shipped("assets") / "weights"
TRACK4GEN_MINI = WEIGHTS / "track4gen-mini"  # diffusers folder with refiner/: gives features
GENERATING_MINI = WEIGHTS / "generating-mini"  # the same; generates better, tracks worse
RAFT_MINI = WEIGHTS / "raft-mini.safetensors"


def file_identity(path: Path) -> str:
    """Identify a model file beyond its name, for cache keys.

    Bundled files are small and identified by content, since their time depends on the installation;
    others are identified by size and time.
    """
    if path.is_relative_to(WEIGHTS):
        return hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()
    return f"{path.stat().st_size}:{path.stat().st_mtime_ns}"


def find_bundled(path: Path) -> Path:
    """Return ``path``, one of the above; raise WeightsError if it is missing."""
    if not path.exists():
        raise WeightsError(
            f"{path}: is missing; restore it with `git checkout -- assets/weights`, or install the program"
            f" again, or set features.extractor=patch and flow.method=dis"
        )
    return path
