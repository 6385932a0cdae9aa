"""Where the models lie that come with the source checkout."""

from __future__ import annotations

from pathlib import Path

from t4g_tracker.errors import WeightsError

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "weights"
TRACK4GEN_MINI = BUNDLED / "track4gen-mini"  # diffusers folder with refiner/
RAFT_MINI = BUNDLED / "raft-mini.safetensors"


def find_bundled(path: Path) -> Path:
    """Return ``path``, one of the above, once sure that it is there.

    Raises:
        WeightsError: If the installation is not a checkout, or lacks it.
    """
    if not path.exists():
        raise WeightsError(
            f"{path}: is missing; bundled models come with a source checkout: run from one, or bring it back"
            f" with `git checkout -- assets/weights`, or set features.extractor=patch and flow.method=dis"
        )
    return path
