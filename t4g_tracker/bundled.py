"""Where the models lie that come with the program: beside its packages, in a checkout and installed."""

from __future__ import annotations

from pathlib import Path

from t4g_tracker.errors import WeightsError

BUNDLED = Path(__file__).resolve().parents[1] / "assets" / "weights"
TRACK4GEN_MINI = BUNDLED / "track4gen-mini"  # diffusers folder with refiner/
RAFT_MINI = BUNDLED / "raft-mini.safetensors"


def find_bundled(path: Path) -> Path:
    """Return ``path``, one of the above, once sure that it is there.

    Raises:
        WeightsError: If it is missing.
    """
    if not path.exists():
        raise WeightsError(
            f"{path}: is missing; bring it back with `git checkout -- assets/weights`, or install the program"
            f" again, or set features.extractor=patch and flow.method=dis"
        )
    return path
