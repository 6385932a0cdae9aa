"""The stages of one video, in order, each kept between runs.

No mathematics: frozen features are in t4g_tracker/features, the optimisation in adaptation/loop.py,
matching in t4g_tracker/tracking.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from adaptation.adapter import Adapter, apply_adapter, build_adapter
from adaptation.loop import Adaptation, AdaptationConfig, adapt
from t4g_tracker.cache import Cache, digest, make_key, pack, unpack
from t4g_tracker.choices import QueryMode
from t4g_tracker.commands.arguments import stop_on_interrupt
from t4g_tracker.config import as_dict
from t4g_tracker.coordinates import WorkingSizeConfig, working_size
from t4g_tracker.datatypes import FeatureGrid, FlowSequence, QueryPoints, Tracks, Trajectories, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.extractor import check_features, extract_features, features_identity
from t4g_tracker.features.settings import SIZE_MULTIPLE, FeaturesConfig
from t4g_tracker.flow.estimator import FlowEstimator, resolve_flow, weights_stamp
from t4g_tracker.flow.settings import FlowConfig, flow_size
from t4g_tracker.hardware import pick_device, pick_precision
from t4g_tracker.results import Result, score_results
from t4g_tracker.run_files import OutputsConfig, write_results, write_run
from t4g_tracker.stage_log import Bar, Progress, StageLog, progress_bar
from t4g_tracker.tracking.track import TrackingConfig, track
from t4g_tracker.tracking.visibility import VisibilityConfig
from t4g_tracker.trajectories import TrajectoriesConfig, chain_flow, chain_query_points
from t4g_tracker.video import content_hash, working_frames

log = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every setting of a run, stage by stage; configs/default.yaml lists them."""

    working_size: WorkingSizeConfig = field(default_factory=WorkingSizeConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
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
    """A video made ready to work on, and where its intermediate results are kept."""

    video: Video
    frames: Tensor  # (T, 3, H, W) uint8 at the working size
    content: str  # digest of the original frames
    cache: Cache
    device: torch.device
    seed: int
    foreground: Tensor | None = None  # (T, H, W) bool at the working size
    bar: Bar = progress_bar
    log: StageLog = field(default_factory=StageLog)


def open_clip(
    video: Video,
    config: Config,
    cache: Cache | None = None,
    device: torch.device | None = None,
    seed: int = 0,
    foreground: Tensor | None = None,
    bar: Bar = progress_bar,
) -> Clip:
    """Bring a video to the working size and give it a place in the cache; ``bar`` shows its stages."""
    content = content_hash(video)
    cache = cache or Cache()
    device = device or pick_device("auto")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # whose memory the log of stages measures
    frames = working_frames(video, working_size(video.size, config.working_size))
    return Clip(video, frames, content, cache.of(content), device, seed, foreground, bar)


def frozen_features(clip: Clip, config: Config) -> FeatureGrid:
    """Stage 1: frozen features of every frame."""

    def compute(report: Progress) -> FeatureGrid:
        return extract_features(clip.frames, config.features, clip.device, clip.seed, report)

    return _kept_or_computed(
        clip, "features", frozen_features_key(clip, config), FeatureGrid, "frame", compute
    )


def features_are_kept(clip: Clip, config: Config) -> bool:
    """Whether an earlier run has left these frozen features, so that stage 1 only reads them."""
    return clip.cache.has("features", frozen_features_key(clip, config))


def optical_flow(clip: Clip, config: Config) -> FlowSequence:
    """Stage 2: optical flow between neighbouring frames, both ways."""

    def compute(report: Progress) -> FlowSequence:
        frames = working_frames(clip.video, flow_size(clip.video.size, config.flow))
        return FlowEstimator(config.flow, clip.device).neighbours(frames, report)

    return _kept_or_computed(clip, "flow", optical_flow_key(clip, config), FlowSequence, "pair", compute)


def training_trajectories(clip: Clip, config: Config, flow: FlowSequence) -> Trajectories:
    """Stage 3: flow chained into trajectories, checked against direct flow over larger gaps."""

    def compute(report: Progress) -> Trajectories:
        frames = working_frames(clip.video, flow_size(clip.video.size, config.flow))
        direct = FlowEstimator(config.flow, clip.device)
        return chain_flow(
            flow, config.trajectories, _size(clip), lambda pairs: direct.pairs(frames, pairs), report
        )

    return _kept_or_computed(
        clip, "trajectories", _trajectories_key(clip, config), Trajectories, "check", compute
    )


def fit_adapter(clip: Clip, config: Config, features: FeatureGrid, flow: FlowSequence) -> Adaptation:
    """Stage 4: the optimisation; interrupted runs go on from their checkpoint."""
    key = _adaptation_key(clip, config)
    if clip.cache.has("adaptation", key):
        with clip.log.stage("adaptation"):
            kept = clip.cache.load_timed("adaptation", key)
        if kept is not None:
            clip.log.kept["adaptation"] = kept[1]
            return unpack(Adaptation, kept[0])
    clip.cache.remove("adaptation", key)  # of before --fresh; if this is interrupted, it would be found again
    resume = clip.cache.load("checkpoint", key)
    if resume is not None:
        log.info("adaptation: going on from step %d of %d", resume["step"], config.adaptation.steps)
    trajectories = training_trajectories(clip, config, flow) if config.adaptation.steps else None
    with (
        clip.log.stage("adaptation"),
        clip.bar("adaptation", "step") as report,
        stop_on_interrupt() as stop,
    ):
        fitted = adapt(
            features,
            clip.frames,
            trajectories,
            config.adaptation,
            seed=clip.seed,
            device=clip.device,
            resume=resume,
            keep=lambda state: clip.cache.save("checkpoint", key, state),
            report=lambda step, row: report(step, config.adaptation.steps, f"loss {row['loss']:.2f}"),
            stop=stop,
            foreground=clip.foreground,
        )
    before, _ = clip.log.spent("trajectories") if trajectories is not None else (0.0, 0.0)
    clip.cache.save("adaptation", key, pack(fitted), before + fitted.seconds)
    clip.cache.remove("checkpoint", key)
    return fitted


def adapted_features(
    clip: Clip, config: Config, features: FeatureGrid, fitted: Adaptation, step: int
) -> FeatureGrid:
    """Frozen features corrected by the adapter as it was after ``step`` steps."""
    adapter = _untrained_adapter(clip, config, features)
    adapter.load_state_dict(fitted.snapshots[step])
    return _apply(adapter, clip, config, features)


def unadapted_features(clip: Clip, config: Config, features: FeatureGrid) -> FeatureGrid:
    """Frozen features brought to the adapter's grid, as an adapter after no step gives them: the baseline."""
    return _apply(_untrained_adapter(clip, config, features), clip, config, features)


def track_points(
    clip: Clip,
    queries: QueryPoints,
    config: Config,
    features: FeatureGrid,
    flow: FlowSequence | None,
    progress: Progress | None = None,
) -> Tracks:
    """Stage 5: the query points, matched in every frame and followed along the flow between them.

    Without flow it is matching alone, which shows what the features are worth.
    """
    return track(
        queries, features, clip.video, config.tracking, config.visibility, flow, clip.device, progress
    )


def track_snapshots(
    clip: Clip,
    queries: QueryPoints,
    config: Config,
    features: FeatureGrid,
    flow: FlowSequence,
    fitted: Adaptation,
) -> list[Result]:
    """Matching alone at every snapshot of the optimisation, then the finished tracker."""
    rows: list[Result] = []
    steps = sorted(fitted.snapshots)
    total = (len(steps) + config.tracking.path) * clip.video.frame_count
    with clip.log.stage("tracking"), clip.bar("tracking", "frame") as report:

        def advance(done: int, frames: int) -> None:
            report(len(rows) * frames + done, total)

        for step in steps:
            adapted = adapted_features(clip, config, features, fitted, step)
            label = f"step {step}" if step else "frozen features"
            tracks = track_points(clip, queries, config, adapted, None, advance)
            rows.append(Result(label, tracks, step=step))
        if config.tracking.path:
            finished = track_points(clip, queries, config, adapted, flow, advance)
            rows.append(Result("finished tracker", finished, step=steps[-1]))
    return rows


def write_everything(
    clip: Clip,
    queries: QueryPoints,
    config: Config,
    fitted: Adaptation,
    rows: list[Result],
    truth: Tracks | None,
    folder: Path,
    arguments: dict[str, str],
    mode: QueryMode = "strided",
) -> list[Result]:
    """Stage 6: every file of a run.

    Args:
        rows: From ``track_snapshots``.
        truth: True tracks of the same points, or None.
        folder: Where to; must exist.
        arguments: What was asked for, for the record.
        mode: Which frames count where the truth is known.

    Returns:
        The rows, with their scores where the truth is known.
    """
    if truth is not None:
        rows = score_results(rows, truth, queries, clip.video, mode)
    with clip.log.stage("outputs"), clip.bar("outputs", "file") as report:
        write_results(folder, clip.video, queries, rows, fitted.history, truth, config.outputs, report)
    write_run(
        folder,
        arguments=arguments,
        settings=as_dict(config),
        stages=clip.log.stages,
        results=rows,
        seed=clip.seed,
        device=clip.device,
        seconds_per_step=fitted.seconds_per_step,
    )
    return rows


def _kept_or_computed(
    clip: Clip,
    stage: str,
    key: str,
    kind: type[Value],
    unit: str,
    compute: Callable[[Progress], Value],
) -> Value:
    """What an earlier run kept of a stage; else what ``compute`` comes to, which is kept."""
    with clip.log.stage(stage), clip.bar(stage, unit) as report:
        kept = clip.cache.load_timed(stage, key)
        if kept is not None:
            clip.log.kept[stage] = kept[1]
            return unpack(kind, kept[0])
        begin = time.perf_counter()
        value = compute(report)
        clip.cache.save(stage, key, pack(value), time.perf_counter() - begin)
        return value


def chained_flow_tracks(clip: Clip, queries: QueryPoints, config: Config, flow: FlowSequence) -> Tracks:
    """The baseline without any features: the query points carried along by flow alone."""
    return chain_query_points(queries, flow, clip.video.size, config.trajectories.cycle_threshold_px)


def _untrained_adapter(clip: Clip, config: Config, features: FeatureGrid) -> Adapter:
    return build_adapter(config.adaptation.adapter, features.shape[1], config.adaptation.width, clip.seed)


def _apply(adapter: Adapter, clip: Clip, config: Config, features: FeatureGrid) -> FeatureGrid:
    precision = pick_precision(config.adaptation.precision, clip.device)
    centre = config.adaptation.centre
    return apply_adapter(
        adapter.to(clip.device), features, clip.frames, clip.device, precision, centre=centre
    )


def _size(clip: Clip) -> tuple[int, int]:
    return int(clip.frames.shape[-2]), int(clip.frames.shape[-1])


def frozen_features_key(clip: Clip, config: Config) -> str:
    weights = check_features(config.features)
    return make_key(
        stage="features",
        features=features_identity(config.features, clip.device),
        weights=weights,
        size=_size(clip),
        device=clip.device.type,
        seed=clip.seed,
    )


def optical_flow_key(clip: Clip, config: Config) -> str:
    flow = resolve_flow(config.flow)
    return make_key(
        stage="flow",
        flow=asdict(flow),
        weights=weights_stamp(flow),
        device=clip.device.type,
    )


def _trajectories_key(clip: Clip, config: Config) -> str:
    return make_key(
        stage="trajectories",
        flow=optical_flow_key(clip, config),
        trajectories=asdict(config.trajectories),
        size=_size(clip),
    )


def _adaptation_key(clip: Clip, config: Config) -> str:
    masked = "" if clip.foreground is None else digest(clip.foreground)
    return make_key(
        stage="adaptation",
        features=frozen_features_key(clip, config),
        trajectories=_trajectories_key(clip, config) if config.adaptation.steps else "",
        adaptation=asdict(config.adaptation),
        precision=str(pick_precision(config.adaptation.precision, clip.device)),
        device=clip.device.type,
        foreground=masked,
        seed=clip.seed,
    )
