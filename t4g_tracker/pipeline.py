"""From a video to an adapter fitted to it, and from query points to tracks.

``plan`` writes down the order of the stages, once; ``fit`` runs them. No mathematics: frozen features are in
t4g_tracker/features/, optical flow in t4g_tracker/flow/, trajectories in t4g_tracker/trajectories.py, the
optimisation in adaptation/loop.py, matching in t4g_tracker/tracking/track.py.

This module alone knows what learns (``adaptation``); commands and the Python interface build on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptation.loop import adapt
from adaptation.prepare import PreparedFeatures, prepare_features
from adaptation.result import Adaptation
from adaptation.settings import AdaptationConfig
from t4g_tracker.arrays import ArrayLike, as_masks, as_queries
from t4g_tracker.cache import Cache, digest, make_key
from t4g_tracker.choices import Precision
from t4g_tracker.coordinates import Size, WorkingSizeConfig, working_size
from t4g_tracker.datatypes import FeatureGrid, FlowSequence, QueryPoints, Tracks, Trajectories, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.extractor import (
    check_features,
    effective_features,
    extract_features,
    features_precision,
)
from t4g_tracker.features.settings import SIZE_MULTIPLE, FeaturesConfig
from t4g_tracker.flow.estimator import FlowEstimator, effective_flow, weights_stamp
from t4g_tracker.flow.settings import FlowConfig, flow_size
from t4g_tracker.hardware import pick_device, pick_precision
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.run_files import OutputsConfig
from t4g_tracker.stage_cache import Controls, Node, Run, Stages, derived
from t4g_tracker.stage_log import Progress, StageLog, bars_of, no_bar
from t4g_tracker.tracking.chaining import chain_query_points
from t4g_tracker.tracking.track import TrackingConfig, track
from t4g_tracker.tracking.visibility import VisibilityConfig
from t4g_tracker.trajectories import TrajectoriesConfig, chain_flow
from t4g_tracker.video import content_hash, read_video, working_frames

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every setting of a run, stage by stage; configs/default.yaml lists them."""

    working_size: WorkingSizeConfig = field(default_factory=WorkingSizeConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    visibility: VisibilityConfig = field(default_factory=VisibilityConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)

    def __post_init__(self) -> None:
        multiple = SIZE_MULTIPLE.get(self.features.extractor, 1)
        if self.working_size.multiple % multiple:
            raise ConfigError(
                f"working_size.multiple must be a multiple of {multiple} for {self.features.extractor} "
                f"features (the UNet halves 1/8 latents), got {self.working_size.multiple}"
            )


@dataclass(frozen=True)
class Clip:
    """A video brought to the working size."""

    video: Video
    content: str  # digest of the original frames
    frames: Tensor  # (T, 3, H, W) uint8 at the working size
    foreground: Tensor | None = None  # (T, H, W) bool at the working size

    @property
    def size(self) -> Size:
        return int(self.frames.shape[-2]), int(self.frames.shape[-1])


def open_clip(video: Video, config: Config, foreground: Tensor | None = None) -> Clip:
    """Bring a video to the working size of these settings."""
    frames = working_frames(video, working_size(video.size, config.working_size))
    return Clip(video, content_hash(video), frames, foreground)


@dataclass(frozen=True)
class Plan:
    """The stages of one video; each runs when its value is first needed."""

    features: Node[FeatureGrid]  # frozen
    prepared: Node[PreparedFeatures]
    estimator: Node[FlowEstimator]
    flow: Node[FlowSequence]
    trajectories: Node[Trajectories]
    adaptation: Node[Adaptation]


def plan(clip: Clip, config: Config, run: Run) -> Plan:
    """Lay out the stages of one video in their order.

    Nothing is computed yet, but models are looked for: what is missing is said before any long work.

    Raises:
        WeightsError: If the extractor's weights are missing.
    """
    stages = Stages(run, None if run.cache is None else run.cache.of(clip.content))
    frames = Node(make_key(content=clip.content, size=clip.size), lambda: clip.frames)

    # 1. Frozen features, as the extractor gives them and as adapters take them.
    features = stages.stage(
        "features",
        FeatureGrid,
        _extract,
        settings=effective_features(config.features),
        inputs={"frames": frames},
        weights=check_features(config.features),
        unit="frame",
        device=run.device,
        seed=run.seed,
        precision=features_precision(config.features, run.device),
    )
    prepared = derived(prepare_features, features, centre=config.adaptation.centre)

    # 2. Optical flow between neighbouring frames, at a size of its own.
    flow_config, flow_frames_size = effective_flow(config.flow), flow_size(clip.video.size, config.flow)
    flow_frames = Node(
        make_key(content=clip.content, size=flow_frames_size),
        lambda: working_frames(clip.video, flow_frames_size),
    )
    stamp = weights_stamp(flow_config)
    estimator = Node(
        make_key(flow=flow_config.method, weights=stamp), lambda: FlowEstimator(flow_config, run.device)
    )
    flow = stages.stage(
        "flow",
        FlowSequence,
        _neighbour_flow,
        settings=flow_config,
        inputs={"frames": flow_frames, "estimator": estimator},
        weights=stamp,
        unit="pair",
        device=run.device,
    )

    # 3. Flow chained into trajectories, checked against direct flow over larger gaps.
    trajectories = stages.stage(
        "trajectories",
        Trajectories,
        _chain,
        settings=config.trajectories,
        inputs={"flow": flow, "frames": flow_frames, "estimator": estimator},
        unit="check",
        size=clip.size,
    )

    # 4. The adapter, optimised so that matching reproduces the trajectories.
    foreground = Node("" if clip.foreground is None else digest(clip.foreground), lambda: clip.foreground)
    inputs: dict[str, Node[Any]] = {"features": prepared, "frames": frames}
    if config.adaptation.steps:
        inputs |= {"trajectories": trajectories, "foreground": foreground}
    adaptation = stages.stage(
        "adaptation",
        Adaptation,
        _fit_adapter,
        settings=_effective(config, run.device),
        inputs=inputs,
        seconds=lambda fitted: fitted.seconds + run.log.stages.get("trajectories", {}).get("seconds", 0.0),
        device=run.device,
        seed=run.seed,
    )
    return Plan(features, prepared, estimator, flow, trajectories, adaptation)


def _extract(
    settings: FeaturesConfig,
    controls: Controls,
    frames: Tensor,
    device: torch.device,
    seed: int,
    precision: str,
) -> FeatureGrid:
    """Stage 1; ``precision`` follows from settings and device, and is named for the key alone."""
    return extract_features(frames, settings, device, seed, controls.report)


def _neighbour_flow(
    settings: FlowConfig,
    controls: Controls,
    frames: Tensor,
    estimator: FlowEstimator,
    device: torch.device,
) -> FlowSequence:
    """Stage 2."""
    return estimator.neighbours(frames, controls.report)


def _chain(
    settings: TrajectoriesConfig,
    controls: Controls,
    flow: FlowSequence,
    frames: Tensor,
    estimator: FlowEstimator,
    size: Size,
) -> Trajectories:
    """Stage 3."""
    return chain_flow(flow, settings, size, lambda pairs: estimator.pairs(frames, pairs), controls.report)


def _fit_adapter(
    settings: tuple[AdaptationConfig, MatchingConfig],
    controls: Controls,
    features: PreparedFeatures,
    frames: Tensor,
    device: torch.device,
    seed: int,
    trajectories: Trajectories | None = None,
    foreground: Tensor | None = None,
) -> Adaptation:
    """Stage 4; an interrupted optimisation resumes from its checkpoint."""
    config, matching = settings
    resume = controls.checkpoint.load()
    if resume is not None:
        log.info("adaptation: resuming from step %d of %d", resume["step"], config.steps)

    def report(step: int, row: dict[str, Any]) -> None:
        controls.report(step, config.steps, f"loss {row['loss']:.2f}")

    return adapt(
        features,
        frames,
        trajectories,
        config,
        matching,
        seed=seed,
        device=device,
        resume=resume,
        save=controls.checkpoint.save,
        report=report,
        stop=controls.stop,
        foreground=foreground,
    )


def _effective(config: Config, device: torch.device) -> tuple[AdaptationConfig, MatchingConfig]:
    """The settings as they act on this device; those that do not matter are at their defaults."""
    given = config.adaptation
    half = pick_precision(given.precision, device) == torch.bfloat16
    precision: Precision = "bfloat16" if half else "float32"
    width = given.width if given.adapter == "lite" else AdaptationConfig.width
    if not given.steps:  # nothing is optimised: the adapter alone matters
        untrained = AdaptationConfig(steps=0, adapter=given.adapter, width=width, precision=precision)
        return untrained, MatchingConfig()
    snapshots = tuple(sorted({step for step in given.snapshots if step < given.steps}))
    return replace(given, precision=precision, width=width, snapshots=snapshots), config.matching


def fit(
    video: Video | str | Path,
    config: Config | None = None,
    *,
    device: str | torch.device = "auto",
    seed: int = 0,
    masks: ArrayLike | None = None,
    cache: str | Path | bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Fitted:
    """Fit an adapter to a video: once, for any number of questions.

    Args:
        video: From ``read_video`` or ``as_video``; or a path, which is read.
        config: Every setting; None takes the defaults.
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        seed: The same seed on the same machine gives the same tracks.
        masks: (T, H, W) bool, size of the video: half of the training pairs then come from inside.
        cache: Folder in which features, flow and fitted weights are found again and left; True is the
            commands' own, False caches nothing.
        progress: Called with (stage, done, in all) while it works.

    Returns:
        The fitted tracker; ``track`` it as often as you like.

    Raises:
        TrackerError: If the video, the settings or the masks cannot be used, or a model is missing.

    Example:
        fitted = fit(read_video("x.mp4"))
        tracks = fitted.track([[0, 120, 80], [12, 40, 96]])  # frame, x, y
    """
    config = config or Config()
    video = read_video(video) if isinstance(video, str | Path) else video
    size = working_size(video.size, config.working_size)
    foreground = None if masks is None else as_masks(masks, video, size)
    device = pick_device(device) if isinstance(device, str) else device
    run = Run(
        device=device,
        seed=seed,
        cache=None if cache is False else Cache() if cache is True else Cache(Path(cache)),
        bar=no_bar if progress is None else bars_of(progress),
        log=StageLog(device=device),
    )
    return fit_clip(open_clip(video, config, foreground), config, run)


def fit_clip(clip: Clip, config: Config, run: Run) -> Fitted:
    """``fit`` for a clip that is open already, run as ``run`` says."""
    stages = plan(clip, config, run)
    fitting = bool(config.adaptation.steps) and not stages.adaptation.cached
    if fitting or (config.tracking.path and not stages.flow.cached):
        method = stages.estimator.value.config.method  # its weights are loaded before any long work
        if config.flow.method == "auto":
            log.info("optical flow: %s", method)
    prepared = stages.prepared.value  # the adapter corrects them, fitted now or before
    return Fitted(clip, config, run, stages, prepared, stages.adaptation.value)


@dataclass(frozen=True)
class Fitted:
    """A video with an adapter fitted to it: ask it for tracks as often as you like."""

    clip: Clip
    config: Config
    run: Run
    stages: Plan
    prepared: PreparedFeatures
    adaptation: Adaptation

    def track(self, points: QueryPoints | ArrayLike, progress: Progress | None = None) -> Tracks:
        """Follow query points through all frames: matching, and paths along the flow.

        Args:
            points: Query points; or (N, 3) frame, x, y; or (N, 2) x, y in frame 0; original pixels.
            progress: Called with (frames done, frames in all).

        Returns:
            N tracks over T frames.

        Raises:
            QueryError: If the points cannot be used.
        """
        flow = self.stages.flow.value if self.config.tracking.path else None
        return self._track(self.adapted, points, flow, progress)

    def match(
        self, points: QueryPoints | ArrayLike, step: int | None = None, progress: Progress | None = None
    ) -> Tracks:
        """Find query points by matching alone, which shows what the features are worth.

        Args:
            points: As ``track`` takes them.
            step: With the adapter as it was after so many steps; 0 is the frozen features, None the last.
            progress: Called with (frames done, frames in all).
        """
        adapted = self.adapted if step in (None, self.adaptation.last_step) else self.adapted_features(step)
        return self._track(adapted, points, None, progress)

    def chain(self, points: QueryPoints | ArrayLike) -> Tracks:
        """Carry query points along by flow alone: the baseline without any features."""
        queries = as_queries(points, self.clip.video)
        threshold_px = self.config.trajectories.cycle_threshold_px
        return chain_query_points(queries, self.stages.flow.value, self.clip.video.size, threshold_px)

    @cached_property
    def adapted(self) -> FeatureGrid:
        """The features that the finished tracker matches."""
        return self.adapted_features(None)

    def adapted_features(self, step: int | None) -> FeatureGrid:
        """Features corrected by the adapter as it was after ``step`` steps; None is the last."""
        return self.adaptation.apply(self.prepared, self.clip.frames, self.run.device, step)

    def _track(
        self,
        features: FeatureGrid,
        points: QueryPoints | ArrayLike,
        flow: FlowSequence | None,
        progress: Progress | None,
    ) -> Tracks:
        config, video = self.config, self.clip.video
        return track(
            as_queries(points, video),
            features,
            video,
            config.matching,
            config.tracking,
            config.visibility,
            flow,
            self.run.device,
            progress,
        )
