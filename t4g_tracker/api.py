"""One call from frames and points in memory to tracks as arrays."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from t4g_tracker.arrays import ArrayLike, as_queries
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import QueryError
from t4g_tracker.fitted import fit, opened, settings_of, whole_number
from t4g_tracker.inputs.mask_objects import Name
from t4g_tracker.inputs.masks import read_foreground
from t4g_tracker.pipeline import Config


@dataclass(frozen=True)
class PointTracks:
    """Where every point is in every frame, as numpy arrays."""

    xy: np.ndarray  # (N, T, 2) float32 original pixels
    visibility: np.ndarray  # (N, T) bool, True when seen
    confidence: np.ndarray  # (N, T) float32 in 0..1


def track_points(
    frames: Video | str | Path | ArrayLike,
    points: ArrayLike,
    steps: int = 600,
    device: str = "auto",
    masks: str | Path | ArrayLike | None = None,
    seed: int = 0,
    *,
    config: Config | None = None,
    mask_object: Name | None = None,
    cache: str | Path | bool | None = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> PointTracks:
    """Track points through a video.

    All inputs are checked first; then an adapter is fitted to the video, which takes minutes on a CPU.
    Features, flow and the fitted adapter are cached, so tracking other points of the same frames
    takes seconds. Nothing is printed, and no global state changes.

    Args:
        frames: Path of a video file or of a folder of frames; (T, H, W, 3) uint8 array; or torch tensor
            (T, 3, H, W) or (1, T, 3, H, W).
        points: (N, 3) rows of frame, x, y; or (N, 2) rows of x, y in frame 0. Original pixels, whole
            numbers at pixel centres; frames count from 0.
        steps: Steps of the optimisation. Hard clips gain from more, up to about 5000.
        device: ``auto`` takes CUDA, then MPS, then the CPU; or cpu, cuda, cuda:1, mps.
        masks: (T, H, W) bool, or a folder of one mask image a frame: half of the training pairs then
            come from inside.
        seed: The same seed on the same machine gives the same tracks.
        config: Further settings; ``steps`` replaces its number of steps.
        mask_object: Which object of a folder of masks, as for ``read_mask``; None for all.
        cache: Folder for cached results; True takes that of the commands, False caches nothing.
        progress: Called with (stage, done, in all) during the work.

    Returns:
        Tracks of the N points through all T frames, before and after their query frames.

    Raises:
        TrackerError: If an input cannot be used; the message names it and the remedy.

    Example:
        tracks = track_points("x.mp4", [[0, 120, 80], [12, 40, 96]])
        tracks.xy[0, 5], tracks.visibility[0, 5]  # the first point in frame 5
    """
    config = settings_of(config)
    steps = whole_number("steps", steps, sys.maxsize)
    config = replace(config, adaptation=replace(config.adaptation, steps=steps))
    video = opened(frames, config)
    queries = as_queries(points, video)
    foreground = masks
    if isinstance(masks, str | Path):
        foreground = read_foreground(Path(masks), video, video.size, mask_object=mask_object)
    elif mask_object is not None:
        raise QueryError("mask_object: goes with a folder of masks; give masks as the path of one")
    fitted = fit(video, config, device=device, seed=seed, masks=foreground, cache=cache, progress=progress)
    tracking = None if progress is None else partial(progress, "tracking")
    tracks = fitted.track(queries, tracking)
    return PointTracks(
        tracks.xy.numpy().astype(np.float32, copy=False),
        tracks.visibility.numpy(),
        tracks.confidence.numpy().astype(np.float32, copy=False),
    )
