"""The worst generated videos of each model and class of failure, with their filmstrips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t4g_tracker.errors import TrackerError, warn
from t4g_tracker.gallery.generated_failures import LOST, GeneratedEvidence, GenerationFailure, find_failure
from t4g_tracker.inputs.video import read_video
from t4g_tracker.outputs.generated import tracks_names
from t4g_tracker.visualize.painting import INK, PAPER, SOFT_INK, resized, write_text
from t4g_tracker.visualize.tiles import GAP_PX, shown_size, tile_size

STRIP_PX, COLUMNS, TEXT_PX = 1800, 6, 18  # of a filmstrip: width, frames, height of letters
AROUND = 2  # frames shown before and after a jump


@dataclass(frozen=True)
class ShownFailure:
    """A failure with its pictures."""

    evidence: GeneratedEvidence
    failure: GenerationFailure
    film: Path  # the video, or its tracks
    picture: np.ndarray | None  # (H, W, 3) uint8; None if the film cannot be read


@dataclass(frozen=True)
class ModelFailures:
    """The failures of a class of one model."""

    folder: str  # name of the folder of generated videos
    model: str
    count: int  # videos in which it was found
    measured: int  # videos in which it was looked for
    videos: int  # of the model
    shown: tuple[ShownFailure, ...]  # the worst


def failures_by_model(
    kind: str, folder: str, evidence: Sequence[GeneratedEvidence], count: int
) -> list[ModelFailures]:
    """Find a class of failures in all videos of a folder, model by model, and paint the worst of each.

    Args:
        kind: The class.
        folder: Name of the folder.
        evidence: Of its videos.
        count: How many to paint of each model.
    """
    results = []
    for model in dict.fromkeys(one.model for one in evidence):
        own = [one for one in evidence if one.model == model]
        found = [(one, failure) for one in own if (failure := find_failure(one, kind)) is not None]
        worst = sorted(found, key=lambda pair: -pair[1].weight)[:count]
        shown = tuple(_shown(*pair) for pair in worst)
        known = sum(one.known(kind) for one in own)
        results.append(ModelFailures(folder, model, len(found), known, len(own), shown))
    return results


def _shown(evidence: GeneratedEvidence, failure: GenerationFailure) -> ShownFailure:
    tracks = evidence.video.parent / Path(tracks_names(evidence.video.name)[1])
    film = tracks if failure.kind == LOST and tracks.is_file() else evidence.video
    try:
        picture = filmstrip(film, failure)
    except TrackerError as error:
        warn(f"{error} (it is shown without a picture)")
        picture = None
    return ShownFailure(evidence, failure, film, picture)


def filmstrip(film: Path, failure: GenerationFailure) -> np.ndarray:
    """Paint frames of a film side by side, what was measured of each above it: (H, W, 3) uint8.

    These are the first frame and those around the one where it shows, or frames evenly spaced over the film.

    Raises:
        VideoError: If the film cannot be read.
    """
    video = read_video(film)
    height, width = tile_size(shown_size(video), STRIP_PX / COLUMNS - GAP_PX)
    frames = shown_frames(video.frame_count, failure.frame)
    strip = np.full((height + TEXT_PX + 2 * GAP_PX, COLUMNS * (width + GAP_PX), 3), PAPER, np.uint8)
    for column, frame in enumerate(frames):
        left = column * (width + GAP_PX)
        strip[-height:, left : left + width] = resized(video.frames[frame], (height, width))
        value = f": {failure.values[frame - 1]}" if 0 < frame <= len(failure.values) else ""
        ink = INK if frame == failure.frame else SOFT_INK
        where = (left + width / 2, GAP_PX + TEXT_PX / 2)
        write_text(strip, f"frame {frame}{value}", where, TEXT_PX, ink, "mm", width)
    return strip


def shown_frames(count: int, frame: int | None) -> list[int]:
    """Choose which of ``count`` frames a filmstrip shows, ``COLUMNS`` at most, in their order."""
    if frame is None:
        return sorted({round(place) for place in np.linspace(0, count - 1, COLUMNS)})
    return sorted({0, *range(max(0, frame - AROUND), min(count, frame + AROUND + 1))})
