"""The stages between a video and an adapter fitted to it, and all their settings.

``plan`` is the one place that defines their order. The mathematics is elsewhere: frozen features in
t4g_tracker/features/, optical flow in t4g_tracker/flow/, trajectories in t4g_tracker/motion/, the
optimisation in adaptation/loop.py. ``fit`` in t4g_tracker/fitted.py runs the stages and tracks.

No other module imports ``adaptation``, which holds everything that learns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from adaptation.adapter import check_working_size
from adaptation.buddies import BestBuddies, mine_buddies
from adaptation.loop import adapt
from adaptation.prepare import PreparedFeatures, prepare_features
from adaptation.result import Adaptation as Adaptation  # of which a Fitted tells
from adaptation.settings import AdaptationConfig
from t4g_tracker.choices import Precision
from t4g_tracker.coordinates import Size, WorkingSizeConfig, working_size
from t4g_tracker.datatypes import FeatureGrid, FlowFields, Trajectories, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.extractor import (
    check_features,
    effective_features,
    extract_features,
    features_precision,
    uses_seed,
)
from t4g_tracker.features.foreground import foreground_masks
from t4g_tracker.features.settings import FeaturesConfig, feature_channels, size_multiple
from t4g_tracker.features.tiles import tiled
from t4g_tracker.flow.estimator import FlowEstimator, composes, effective_flow, weights_stamp
from t4g_tracker.flow.settings import FlowConfig, flow_size
from t4g_tracker.hardware import check_precision, pick_precision
from t4g_tracker.inputs.video import content_hash, working_frames
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.memory import MemoryConfig, check_memory, long_arrays
from t4g_tracker.motion.fields import pairs_from, pairs_over_gaps
from t4g_tracker.motion.settings import (
    MotionConfig,
    TrajectoriesConfig,
    effective_motion,
    effective_trajectories,
)
from t4g_tracker.motion.trajectories import make_trajectories
from t4g_tracker.outputs.run_files import OutputsConfig
from t4g_tracker.stage_cache import Controls, Node, Run, Stages
from t4g_tracker.storage.cache import digest, make_key
from t4g_tracker.storage.long_arrays import LongArrays
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.visibility import VisibilityConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every setting of a run, stage by stage; configs/default.yaml lists them."""

    working_size: WorkingSizeConfig = field(default_factory=WorkingSizeConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    visibility: VisibilityConfig = field(default_factory=VisibilityConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    def __post_init__(self) -> None:
        missing = sorted(set(self.trajectories.direct_gaps) - set(self.motion.gaps))
        if self.trajectories.rule == "chained" and missing:
            raise ConfigError(
                f"trajectories.direct_gaps holds {missing[0]}, over which no flow is computed; "
                "add it to motion.gaps"
            )
        multiple = size_multiple(self.features)
        if self.working_size.multiple % multiple:
            raise ConfigError(
                f"working_size.multiple must be a multiple of {multiple} for {self.features.extractor} "
                f"features (the UNet halves 1/8 latents), got {self.working_size.multiple}"
            )


@dataclass(frozen=True, eq=False)
class Clip:
    """A video and its frames at the working size."""

    video: Video
    content: str  # digest of the original frames
    frames: Tensor  # (T, 3, H, W) uint8 at the working size
    foreground: Tensor | None = None  # (T, H, W) bool at the working size
    arrays: LongArrays = field(default_factory=LongArrays)  # where its frames, flow and features are held

    @property
    def size(self) -> Size:
        return int(self.frames.shape[-2]), int(self.frames.shape[-1])


def frame_bytes(config: Config) -> Callable[[Size], int]:
    """Estimate the bytes that a run holds at most, in tracking, for each frame of a video of (H, W).

    A pixel of the frame takes 3 bytes and 1 in grey for sub-pixel refinement; one of the working size 3; one
    of the flow's size 3, and 8 for flow of half precision both ways over each gap, and straight from one
    frame. A channel takes 2 bytes a cell: at stride 8 in frozen and in prepared features, at stride 4 in
    adapted ones, and as much again stands for trajectories and what else grows with the video.

    Source: ``peak_memory_mb`` of tracking in run.json, 16 and 48 frames, points in one frame,
    features.extractor=patch, differs by 9.8 MB a frame at 426x240, 17.3 at 854x480 and 23.3 at 1920x1080, and
    this gives 9.9, 17.6 and 24.3; with features.patch.channels=256 by 19.0 at 426x240, and this gives 20.9.
    That was with flow straight from one frame to every other; to fewer, as now, it takes less.
    """

    def of_size(size: Size) -> int:
        sizes = size, working_size(size, config.working_size), flow_size(size, config.flow)
        pixels, working, flow = (height * width for height, width in sizes)
        cells = 2 * working // 64 + 2 * working // 16
        of_flow = 3 + 8 * (len(config.motion.gaps) + config.motion.from_query)
        of_features = 2 * feature_channels(config.features) * cells
        return 4 * pixels + 3 * working + of_flow * flow + of_features

    return of_size


def open_clip(
    video: Video, config: Config, foreground: Tensor | None = None, arrays: LongArrays | None = None
) -> Clip:
    """Resize a video to the working size of these settings.

    Args:
        video: T frames.
        config: Every setting.
        foreground: (T, H, W) bool at the working size.
        arrays: Those that the video was read with; None makes some, in the system's temporary folder.

    Raises:
        VideoError: If a run on it needs more memory than it may take, and more than the disk has free.
    """
    arrays = arrays or long_arrays(config.memory, None)
    need, held = frame_bytes(config)(video.size), video.frames.nbytes
    check_memory(video.source, video.frame_count, video.size, need, held, arrays=arrays)
    frames = working_frames(video, working_size(video.size, config.working_size), arrays.empty)
    return Clip(video, content_hash(video), frames, foreground, arrays)


@dataclass(frozen=True, eq=False)
class Plan:
    """The stages of one video; each runs when its value is first needed."""

    features: Node[FeatureGrid]  # frozen, on the extractor's own grid
    prepared: Node[PreparedFeatures]
    estimator: Node[FlowEstimator]
    flow: Node[FlowFields]  # over all gaps
    query_flow: Callable[[int], Node[FlowFields]]  # straight from the frame given
    trajectories: Node[Trajectories]
    buddies: Node[BestBuddies]  # of the frozen features, where flow does not reach
    adaptation: Node[Adaptation]


def plan(clip: Clip, config: Config, run: Run) -> Plan:
    """Lay out the stages of one video in order.

    Nothing is computed yet, but models are located, so that a missing one is reported before any
    long work.

    Raises:
        WeightsError: If the extractor's weights are missing.
        ConfigError: If the adapter cannot read frames of this size.
    """
    check_working_size(config.adaptation.adapter, clip.size)
    stages = Stages(run, None if run.cache is None else run.cache.of(clip.content), clip.arrays)
    frames = Node(make_key(content=clip.content, size=clip.size), lambda: clip.frames)

    # 1. Frozen features: raw from the extractor, on its own grid, and prepared for adapters.
    features = stages.stage(
        "features",
        FeatureGrid,
        _extract,
        settings=effective_features(config.features),
        inputs={"frames": frames},
        weights=check_features(config.features),
        unit="frame",
        device=run.device,
        seed=run.seed if uses_seed(config.features) else 0,
        precision=features_precision(config.features, run.device),
    )
    tiles = Node(features.key, lambda: tiled(features.value))  # which most are already
    prepared = stages.derived(
        "features",
        prepare_features,
        tiles,
        long=True,
        centre=config.adaptation.centre,
        unit_length=config.adaptation.unit_length,
        components=config.adaptation.components if config.adaptation.steps else 0,
    )

    # 2. Optical flow over several gaps, at a size of its own.
    estimator, flow, query_flow = _plan_flow(stages, clip, config)

    # 3. Points followed along it into trajectories.
    trajectories = stages.stage(
        "trajectories",
        Trajectories,
        _trajectories,
        settings=effective_trajectories(config.trajectories),
        inputs={"flow": flow},
        unit="start",
        frame_count=clip.video.frame_count,
        size=clip.size,
        motion=effective_motion(config.motion, config.trajectories.rule),
    )

    # 4. Best buddies of the frozen features, if a loss asks for them.
    buddies = stages.stage(
        "buddies",
        BestBuddies,
        _mine,
        settings=(),
        inputs={"features": prepared, "trajectories": trajectories},
        unit="pair",
        device=run.device,
    )

    # 5. The adapter, optimised so that matching reproduces the trajectories.
    foreground: Node[Any] = Node(
        "" if clip.foreground is None else digest(clip.foreground), lambda: clip.foreground
    )
    if clip.foreground is None and config.adaptation.foreground == "auto":
        foreground = stages.derived("features", foreground_masks, tiles)
    inputs: dict[str, Node[Any]] = {"features": prepared, "frames": frames}
    measured = config.tracking.motion and config.adaptation.held_out  # how well matching does, steps or not
    if config.adaptation.steps or measured:
        inputs["trajectories"] = trajectories
    if config.adaptation.steps:
        inputs["foreground"] = foreground
        if config.adaptation.losses.frozen_buddies:
            inputs["buddies"] = buddies
    adaptation = stages.stage(
        "adaptation",
        Adaptation,
        _fit_adapter,
        settings=_effective(config, run.device),
        inputs=inputs,
        seconds=lambda fitted: fitted.seconds + run.log.spent("trajectories", "buddies")[0],
        device=run.device,
        seed=run.seed,
    )
    return Plan(features, prepared, estimator, flow, query_flow, trajectories, buddies, adaptation)


def _plan_flow(
    stages: Stages, clip: Clip, config: Config
) -> tuple[Node[FlowEstimator], Node[FlowFields], Callable[[int], Node[FlowFields]]]:
    """Lay out the flow method, the flow over gaps, and that straight from any frame."""
    settings, device = effective_flow(config.flow), stages.run.device
    size = flow_size(clip.video.size, config.flow)
    frames = Node(
        make_key(content=clip.content, size=size),
        lambda: working_frames(clip.video, size, clip.arrays.empty),
    )
    stamp = weights_stamp(settings)
    key = make_key(flow=asdict(settings), weights=stamp)

    def load() -> FlowEstimator:
        if settings.method == "dis":  # there is nothing to load
            return FlowEstimator(settings, device)
        with stages.run.log.stage("flow"):
            return FlowEstimator(settings, device)

    estimator = Node(key, load)

    def between(name: str, pairs: list[tuple[int, int]], known: dict[str, Node[Any]]) -> Node[FlowFields]:
        return stages.stage(
            name,
            FlowFields,
            _flow,
            settings=settings,
            inputs={"frames": frames, "estimator": estimator, **known},
            weights=stamp,
            unit="flow",
            device=device,
            pairs=pairs,
        )

    frame_count, motion = clip.video.frame_count, config.motion
    over_gaps = pairs_over_gaps(frame_count, motion.gaps)
    flow = between("flow", over_gaps, {})

    # One is held: that of another frame is read from the cache, or computed where there is none.
    @lru_cache(maxsize=1)
    def from_query(frame: int) -> Node[FlowFields]:
        straight = pairs_from(frame, frame_count, motion.reach, motion.dense_reach)
        pairs = sorted(set(straight) - set(over_gaps))
        if not pairs:
            nothing = torch.zeros(0, 2, *size, dtype=torch.float16)
            return Node("", lambda: FlowFields(torch.zeros(0, 2, dtype=torch.int64), nothing, nothing))
        return between("query_flow", pairs, {"over_gaps": flow} if composes(settings) else {})

    return estimator, flow, from_query


def _extract(
    settings: FeaturesConfig,
    controls: Controls,
    frames: Tensor,
    device: torch.device,
    seed: int,
    precision: str,
) -> FeatureGrid:
    """Stage 1; ``precision`` follows from settings and device, and is here only to be part of the key."""
    controls.report(0, len(frames))  # shows the bar while the model loads
    return extract_features(frames, settings, device, seed, controls.report, controls.empty)


def _flow(
    settings: FlowConfig,
    controls: Controls,
    frames: Tensor,
    estimator: FlowEstimator,
    device: torch.device,
    pairs: list[tuple[int, int]],
    over_gaps: FlowFields | None = None,
) -> FlowFields:
    """Stage 2."""
    return estimator.both_ways(frames, pairs, controls.report, controls.empty, over_gaps)


def _trajectories(
    settings: TrajectoriesConfig,
    controls: Controls,
    flow: FlowFields,
    frame_count: int,
    size: Size,
    motion: MotionConfig,
) -> Trajectories:
    """Stage 3."""
    return make_trajectories(flow, frame_count, settings, size, motion, controls.report)


def _mine(
    settings: tuple[()],
    controls: Controls,
    features: PreparedFeatures,
    trajectories: Trajectories,
    device: torch.device,
) -> BestBuddies:
    """Stage 4, which has no settings."""
    return mine_buddies(features, trajectories, device, controls.report)


def _fit_adapter(
    settings: tuple[AdaptationConfig, MatchingConfig],
    controls: Controls,
    features: PreparedFeatures,
    frames: Tensor,
    device: torch.device,
    seed: int,
    trajectories: Trajectories | None = None,
    foreground: Tensor | None = None,
    buddies: BestBuddies | None = None,
) -> Adaptation:
    """Stage 5; an interrupted optimisation resumes from its checkpoint."""
    config, matching = settings
    resume = controls.checkpoint.load()
    if resume is not None:
        log.info("adaptation: resuming from step %d of %d", resume["step"], config.steps)

    def report(step: int, row: dict[str, Any]) -> None:
        controls.report(step, config.steps, f"loss {row['loss']:.2f}")

    with controls.stop() as stop:
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
            stop=stop,
            foreground=foreground,
            buddies=buddies,
        )


def _effective(config: Config, device: torch.device) -> tuple[AdaptationConfig, MatchingConfig]:
    """The settings as they act on this device; those without effect are reset to their defaults."""
    settings = config.adaptation
    check_precision("adaptation.precision", settings.precision, device)
    half = pick_precision(settings.precision, device) == torch.bfloat16
    precision: Precision = "bfloat16" if half else "float32"
    width = settings.width if settings.adapter == "lite" else AdaptationConfig.width
    window = settings.window if settings.samples_pairs_alone else AdaptationConfig.window
    if not settings.steps:  # nothing is optimised: the adapter's shape matters, and for flow how it matches
        untrained = AdaptationConfig(
            steps=0, adapter=settings.adapter, width=width, head=settings.head, precision=precision
        )
        if not (config.tracking.motion and settings.held_out):
            return untrained, MatchingConfig()
        return replace(untrained, held_out=settings.held_out), config.matching
    late = settings.losses.refined_buddies or settings.losses.cycle
    late_start = settings.late_start if late else AdaptationConfig.late_start
    snapshots = tuple(sorted({step for step in settings.snapshots if step < settings.steps}))
    acting = replace(
        settings,
        precision=precision,
        width=width,
        window=window,
        foreground=AdaptationConfig.foreground,  # acts by the masks that it chooses
        late_start=late_start,
        snapshots=snapshots,
    )
    return acting, config.matching
