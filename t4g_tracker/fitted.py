"""Fitting an adapter to a video once, and tracking any points with it."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from t4g_tracker.arrays import ArrayLike, as_masks, as_queries, as_video
from t4g_tracker.coordinates import working_size
from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Tracks, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.hardware import pick_device
from t4g_tracker.inputs.video import read_video
from t4g_tracker.memory import long_arrays
from t4g_tracker.motion.following import Motion
from t4g_tracker.pipeline import Adaptation, Clip, Config, Plan, frame_bytes, open_clip, plan
from t4g_tracker.stage_cache import Run
from t4g_tracker.stage_log import Progress, StageLog, bars_of, no_bar
from t4g_tracker.storage.cache import Cache
from t4g_tracker.storage.files import default_cache_folder
from t4g_tracker.storage.long_arrays import LongArrays
from t4g_tracker.tracking.flow_alone import track_by_flow
from t4g_tracker.tracking.tracker import track

log = logging.getLogger(__name__)


def fit(
    video: Video | str | Path | ArrayLike,
    config: Config | None = None,
    *,
    device: str | torch.device = "auto",
    seed: int = 0,
    masks: ArrayLike | None = None,
    cache: str | Path | bool | None = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Fitted:
    """Fit an adapter to a video, once for any number of query points.

    Args:
        video: From ``read_video``; or a path, an array or a tensor, as in ``track_points``.
        config: Every setting; None takes the defaults.
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        seed: The same seed on the same machine gives the same tracks.
        masks: (T, H, W) bool, size of the video: half of the training pairs then come from inside.
        cache: Folder for cached features, flow and fitted weights; True takes that of the commands,
            False or None caches nothing.
        progress: Called with (stage, done, in all) during the work.

    Returns:
        The fitted tracker; call its ``track`` as often as you like.

    Raises:
        TrackerError: If the video, the settings or the masks cannot be used, or a model is missing.

    Example:
        fitted = fit(read_video("x.mp4"))
        tracks = fitted.track([[0, 120, 80], [12, 40, 96]])  # frame, x, y
    """
    config = settings_of(config)
    opened_cache = _cache(cache)
    arrays = long_arrays(config.memory, None if opened_cache is None else opened_cache.folder)
    video = opened(video, config, arrays)
    size = working_size(video.size, config.working_size)
    foreground = None if masks is None else as_masks(masks, video, size)
    device = pick_device(str(device))
    run = Run(
        device=device,
        seed=whole_number("seed", seed, 2**63 - 1),
        cache=opened_cache,
        bar=no_bar if progress is None else bars_of(progress),
        log=StageLog(device=device),
    )
    return fit_clip(open_clip(video, config, foreground, arrays), config, run)


def settings_of(config: Config | None) -> Config:
    """The settings given, or the defaults; raise ConfigError for anything else, such as a file's name."""
    if config is None or isinstance(config, Config):
        return config or Config()
    raise ConfigError(
        f"config must be a Config, got {config!r}; read a file by read_settings(Config(), FILE)"
    )


def opened(video: Video | str | Path | ArrayLike, config: Config, arrays: LongArrays | None = None) -> Video:
    """Read a video from a path, or make it from an array; an open video is returned unchanged.

    Args:
        video: As in ``fit``.
        config: Settings of the run, which tell how much memory the video of a path will take.
        arrays: Where its frames are held; None for memory, or else for the system's temporary folder.
    """
    if isinstance(video, Video):
        return video
    if isinstance(video, str | Path):
        arrays = arrays or long_arrays(config.memory, None)
        return read_video(video, frame_bytes=frame_bytes(config), arrays=arrays)
    return as_video(video)


def _cache(choice: str | Path | bool | None) -> Cache | None:
    """Open the cache of a caller's choice; its folder is created and must be writable."""
    if choice is None or choice is False:
        return None
    return Cache.open(default_cache_folder() if choice is True else Path(choice), fresh=False)


def whole_number(name: str, value: Any, most: int) -> int:
    """Convert a value of any integer type; raise ConfigError if it is not a whole number up to ``most``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"{name} must be a whole number, got {value!r}") from None
    if not 0 <= number <= most:
        raise ConfigError(f"{name} must be from 0 to {most}, got {number}")
    return number


def fit_clip(clip: Clip, config: Config, run: Run) -> Fitted:
    """Fit an adapter to an open clip; ``run`` holds device, seed and cache."""
    stages = plan(clip, config, run)
    fitting = bool(config.adaptation.steps) and not stages.adaptation.cached
    if fitting or (config.tracking.motion and not stages.flow.cached):
        method = stages.estimator.value.config.method  # loads its weights before any long work
        if config.flow.method == "auto":
            log.info("optical flow: %s", method)
    # Compute what all tracking needs; flow, unless fitting needed it, waits for the first query that does,
    # and so do features that only pictures may need.
    if config.adaptation.steps or config.adaptation.held_out or not config.tracking.motion:
        stages.prepared.ensure()
        stages.adaptation.ensure()
    return Fitted(clip, config, run, stages)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A video with an adapter fitted to it, ready to track points.

    It cannot be sent to another process, which calls ``fit`` with the same cache instead, in seconds.
    """

    clip: Clip
    config: Config
    run: Run
    stages: Plan

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Fitted cannot be pickled; call fit with the same video and cache in the other process"
        )

    def track(self, points: QueryPoints | ArrayLike, progress: Progress | None = None) -> Tracks:
        """Follow query points through all frames: matches joined with flow.

        Args:
            points: Query points; or (N, 3) frame, x, y; or (N, 2) x, y in frame 0; original pixels.
            progress: Called with (frames done, frames in all).

        Returns:
            N tracks over T frames.

        Raises:
            QueryError: If the points cannot be used.
        """
        queries = as_queries(points, self.clip.video)  # checked before flow may have to be computed
        if not self.config.tracking.motion:
            return self._track(self.adapted, queries, None, progress, None)
        if not self.trust:  # features are not needed
            return self.follow(queries, progress)
        return self._track(self.adapted, queries, self.motion, progress, None)

    def match(
        self, points: QueryPoints | ArrayLike, step: int | None = None, progress: Progress | None = None
    ) -> Tracks:
        """Track query points by matching alone, which shows how good the features are.

        Args:
            points: As in ``track``.
            step: Number of steps after which to take the adapter; 0: frozen features, None: the last.
            progress: Called with (frames done, frames in all).
        """
        queries, last = as_queries(points, self.clip.video), self.stages.adaptation.value.last_step
        adapted = self.adapted if step in (None, last) else self.adapted_features(step)
        return self._track(adapted, queries, None, progress, step)

    def match_raw(self, points: QueryPoints | ArrayLike, progress: Progress | None = None) -> Tracks:
        """Track query points by matching the features as their extractor gives them.

        On the extractor's own grid, without subtracting the video's mean feature and without sub-pixel
        refinement; arguments as in ``track``. ``match`` at step 0 does all three on the adapter's grid.
        """
        config, video = self.config, self.clip.video
        return track(
            as_queries(points, video),
            self.stages.features.value,
            video,
            config.matching,
            replace(config.tracking, subpixel=False),
            config.visibility,
            device=self.run.device,
            progress=progress,
        )

    def follow(self, points: QueryPoints | ArrayLike, progress: Progress | None = None) -> Tracks:
        """Track query points by flow alone: the baseline without any features; arguments as in ``track``."""
        queries, video = as_queries(points, self.clip.video), self.clip.video
        return track_by_flow(
            queries,
            self.motion,
            video.frame_count,
            self.clip.size,
            video.size,
            self.config.visibility,
            progress,
        )

    @property
    def adaptation(self) -> Adaptation | None:
        """The fitted adapter and its history; None where nothing was to be learned or measured."""
        config = self.config.adaptation
        return self.stages.adaptation.value if config.steps or config.held_out else None

    @property
    def trust(self) -> float:
        """How far matches count beside flow, 0..1; 0 for frozen features of which nothing was measured."""
        return 0.0 if self.adaptation is None else self.config.tracking.trust(self.adaptation.found)

    @property
    def trust_note(self) -> str:
        """Say how far matches counted; empty where they counted in full, or nothing was measured."""
        found, trust = self.adaptation.found if self.adaptation else None, self.trust
        if found is None or trust == 1 or not self.config.tracking.motion:
            return ""
        share = f"matching finds {100 * found:.0f} % of held-out points"
        if not trust:
            return f"{share}, so flow alone was followed"
        return f"{share}, so matches counted {100 * trust:.0f} % beside flow"

    @cached_property
    def motion(self) -> Motion:
        """The flow of the video; flow straight from a query frame is computed when a point needs it."""
        config = self.config.motion
        from_query = None if not config.from_query else lambda frame: self.stages.query_flow(frame).value
        return Motion(self.stages.flow.value, config, from_query)

    @cached_property
    def adapted(self) -> FeatureGrid:
        """The features that the finished tracker matches."""
        return self.adapted_features(None)

    def adapted_features(self, step: int | None) -> FeatureGrid:
        """Features corrected by the adapter as it was after ``step`` steps; None is the last."""
        return self.stages.adaptation.value.apply(
            self.stages.prepared.value, self.clip.frames, self.run.device, step, self.clip.arrays.empty
        )

    def _track(
        self,
        features: FeatureGrid,
        queries: QueryPoints,
        motion: Motion | None,
        progress: Progress | None,
        step: int | None,
    ) -> Tracks:
        """Track with the head as it was after ``step`` steps, as the features are."""
        config, video = self.config, self.clip.video
        return track(
            queries,
            features,
            video,
            config.matching,
            config.tracking,
            config.visibility,
            motion,
            self.run.device,
            progress,
            self.stages.adaptation.value.head(step),
            self.trust,
        )
