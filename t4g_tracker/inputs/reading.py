"""What reading a video gives, whatever its files are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from t4g_tracker.inputs.frame_times import Timing


@dataclass(frozen=True)
class Reading:
    """What was read of a video."""

    frames: list[np.ndarray]  # each (H, W, 3) uint8 RGB, as shown
    skipped: int  # frames before them
    timing: Timing
    pixel_aspect: float = 1.0  # width of a pixel over its height, as shown
    first_file_number: int | None = None  # in the name of a folder's first file, also if it is skipped
