"""``t4g bench``: trackers compared on annotated clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from t4g_tracker.batch.outcomes import ClipOutcome, MethodScores
from t4g_tracker.batch.progress import clip_bar
from t4g_tracker.batch.report import Setup
from t4g_tracker.cache import Cache
from t4g_tracker.commands.arguments import guarded
from t4g_tracker.commands.batch_arguments import check_names, parse_bench, varied
from t4g_tracker.commands.many_clips import Job, check_run, run_job, with_changes
from t4g_tracker.config import read_settings
from t4g_tracker.datasets.annotated import AnnotatedClip, View
from t4g_tracker.datasets.choice import AnnotatedClips, DatasetChoice
from t4g_tracker.datasets.protocols import worst_tracks
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.files import prepare_output_folder
from t4g_tracker.flow.estimator import resolve_flow
from t4g_tracker.pipeline import (
    Clip,
    Config,
    adapted_features,
    chained_flow_tracks,
    fit_adapter,
    frozen_features,
    frozen_features_key,
    open_clip,
    optical_flow,
    optical_flow_key,
    track_points,
    unadapted_features,
)
from t4g_tracker.stage_log import Bar
from t4g_tracker.visualize.overlay import draw_overlay, write_video


@dataclass(frozen=True)
class BenchJob(Job):
    """Measures one clip of a data set; see ``bench_methods`` for what on it."""

    choice: DatasetChoice

    def __call__(self, name: str, device: str) -> ClipOutcome:
        annotated = self.choice.view.of(_opened(self.choice).load(name))
        protocol = self.choice.protocol
        queries, track_index = protocol.ask(annotated)
        scores, tracks = [], None
        for found in self._methods(annotated, queries, torch.device(device), partial(clip_bar, name)):
            measures = protocol.score(annotated, queries, track_index, found.tracks)
            scores.append(MethodScores(found.method, measures, found.seconds, found.peak_memory_mb))
            tracks = found.tracks
        assert tracks is not None
        overlay = self._draw(name, annotated, queries, tracks) if self.overlays else ""
        worst = worst_tracks(protocol, annotated, queries, track_index, tracks)
        return ClipOutcome(name, tuple(scores), worst, annotated.video.frame_count, overlay)

    def _methods(
        self, annotated: AnnotatedClip, queries: QueryPoints, device: torch.device, bar: Bar
    ) -> Iterator[MethodTracks]:
        """Every configuration's methods; a baseline that two share is measured once."""
        seen: dict[str, str] = {}
        for name, config in self.configs.items():
            clip = open_clip(annotated.video, config, self.cache, device, self.seed, bar=bar)
            yield from bench_methods(clip, queries, config, name, seen)

    def _draw(self, name: str, annotated: AnnotatedClip, queries: QueryPoints, tracks: Tracks) -> str:
        settings, folder = self.config().outputs, prepare_output_folder(self.out / "overlays")
        pictures = draw_overlay(annotated.video, tracks, queries, settings.trail_frames, settings.dim)
        write_video(folder / f"{name}.mp4", pictures, annotated.video.fps)
        return f"overlays/{name}.mp4"


@dataclass(frozen=True)
class MethodTracks:
    """Tracks that one method gave for a clip, and what they took."""

    method: str
    tracks: Tracks
    seconds: float
    peak_memory_mb: float


@lru_cache(maxsize=1)
def _opened(choice: DatasetChoice) -> AnnotatedClips:
    """The data set, looked into once a process."""
    return choice.open()


def bench_methods(
    clip: Clip, queries: QueryPoints, config: Config, name: str, seen: dict[str, str]
) -> Iterator[MethodTracks]:
    """Both baselines and the adapted tracker on one clip, each with what it took.

    Baselines in ``seen``, methods by what they depend on, are left out; those measured are added.
    """
    flow = optical_flow(clip, config)
    key = f"{optical_flow_key(clip, config)} {config.trajectories.cycle_threshold_px}"
    if key not in seen:
        with clip.log.stage("chain"):
            chained = chained_flow_tracks(clip, queries, config, flow)
        method = seen[key] = _new_name(f"chained {resolve_flow(config.flow).method}", name, seen)
        yield MethodTracks(method, chained, *clip.log.spent("flow", "chain"))
    features = frozen_features(clip, config)
    brought = (config.adaptation.adapter, config.adaptation.precision, config.adaptation.centre)
    key = f"{frozen_features_key(clip, config)} {brought} {config.tracking} {config.visibility}"
    if key not in seen:
        with clip.log.stage("matching"):
            unchanged = unadapted_features(clip, config, features)
            frozen = track_points(clip, queries, config, unchanged, None)
        spent = clip.log.spent("features", "matching")
        method = seen[key] = _new_name(f"frozen {config.features.extractor}", name, seen)
        yield MethodTracks(method, frozen, *spent)
    fitted = fit_adapter(clip, config, features, flow)
    with clip.log.stage("adapter"):
        adapted = adapted_features(clip, config, features, fitted, config.adaptation.steps)
    fitting = ("features", "flow", "trajectories", "adaptation", "adapter")
    with clip.log.stage("matching adapted"):
        matched = track_points(clip, queries, config, adapted, None)
    yield MethodTracks(f"{name}, matching alone", matched, *clip.log.spent(*fitting, "matching adapted"))
    with clip.log.stage("tracking"):
        tracks = track_points(clip, queries, config, adapted, flow)
    yield MethodTracks(name, tracks, *clip.log.spent(*fitting, "tracking"))


def _new_name(method: str, config: str, seen: dict[str, str]) -> str:
    """The name of a baseline; with that of its configuration where another one has it already."""
    return f"{method}, {config}" if method in seen.values() else method


def synthetic_val(folder: Path) -> Path:
    """The project's own benchmark, made below ``folder`` where it is not there yet.

    Raises:
        OutputError: If it cannot be written.
        TrackerError: If it has to be made and scikit-image is not installed.
    """
    from t4g_tracker.synthetic.benchmark import make_val
    from t4g_tracker.synthetic.clips import CLIPS_VERSION
    from t4g_tracker.synthetic.settings import ValConfig

    config = ValConfig()
    folder = folder / f"v{CLIPS_VERSION}"
    if len(list((folder / "tracks").glob("[!.]*.npz"))) < config.clips:
        make_val(folder, config)
    return folder


def bench(argv: list[str] | None = None) -> int:
    """``t4g bench``: returns the exit code, 1 where a clip failed."""
    return guarded(_bench_command, argv)


def _bench_command(argv: list[str] | None) -> int:
    request = parse_bench(argv)
    base = read_settings(Config(), request.config, request.assignments)
    check_names([file.stem for file in request.configs])
    configs = {file.stem: read_settings(base, file, request.assignments) for file in request.configs}
    for name, assignments in varied(request.vary).items():
        configs[name] = read_settings(base, None, assignments)
    configs = configs or {request.config.stem if request.config else "default": base}
    check_run(request, configs)
    view = View(request.resolution or ("480p" if request.path else "stored"), request.first_frames)
    path = request.data or request.path or synthetic_val(request.cache / "synthetic-val")
    choice = DatasetChoice(request.dataset or "folder", path, request.mode, view, tuple(request.clips or ()))
    clips = choice.open()
    names = choice.names(clips)
    identity = {"what": "bench", "data": str(path), "protocol": choice.describe()}
    setup = Setup(
        title=with_changes(choice.describe(), request.assignments),
        dataset=choice.dataset,
        mode=request.mode,
        resolution=view.resolution,
        first_frames=view.first_frames,
        clips=len(names),
        all_clips=len(clips.names()),
    )
    job = BenchJob(
        configs=configs,
        cache=Cache.open(request.cache, request.fresh),
        seed=request.seed,
        out=request.out,
        overlays=request.overlays,
        choice=choice,
    )
    return run_job(request, job, names, choice.protocol.measures, identity, setup)
