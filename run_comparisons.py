"""The commands that compare: ``t4g bench``, trackers on annotated clips; ``t4g compare-features``,
frozen features of several extractors on one's own video.

They string together the stages of run_tracker.py, as ``t4g track`` does, and hold no mathematics.
"""

from __future__ import annotations

from collections.abc import Iterator

from run_tracker import (
    Clip,
    Config,
    adapted_features,
    chained_flow_tracks,
    fit_adapter,
    frozen_features,
    open_clip,
    optical_flow,
    track_points,
    unadapted_features,
)
from t4g_tracker.cache import Cache
from t4g_tracker.command_line import guarded, pick_device, read_settings
from t4g_tracker.datasets.bench import Outcome, parse_bench, run_bench
from t4g_tracker.datasets.frames_and_tracks import AnnotatedClip
from t4g_tracker.datatypes import QueryPoints
from t4g_tracker.features import check_features
from t4g_tracker.flow import check_flow


def bench(argv: list[str] | None = None) -> int:
    """``t4g bench``: returns the exit code."""
    return guarded(_bench_command, argv)


def _bench_command(argv: list[str] | None) -> int:
    request = parse_bench(argv)
    base = read_settings(Config(), request.config, request.assignments)
    configs = {file.stem: read_settings(base, file, request.assignments) for file in request.configs}
    configs = configs or {request.config.stem if request.config else "default": base}
    for config in configs.values():
        check_features(config.features)
        check_flow(config.flow)
    device = pick_device(request.device)
    cache = Cache.open(request.cache, request.fresh)

    def track_clip(annotated: AnnotatedClip, queries: QueryPoints) -> Iterator[Outcome]:
        for name, config in configs.items():
            clip = open_clip(annotated.video, config, cache, device, request.seed, quiet=request.quiet)
            yield from bench_methods(clip, queries, config, name)

    print("\n".join(run_bench(request, track_clip)))
    return 0


def bench_methods(clip: Clip, queries: QueryPoints, config: Config, name: str) -> Iterator[Outcome]:
    """Both baselines and the adapted tracker on one clip, each with what it took."""
    flow = optical_flow(clip, config)
    with clip.log.stage("chain"):
        chained = chained_flow_tracks(clip, queries, config, flow)
    yield Outcome(f"chained {config.flow.method}", chained, *clip.log.spent("flow", "chain"))
    features = frozen_features(clip, config)
    with clip.log.stage("matching"):
        unchanged = unadapted_features(clip, config, features)
        frozen = track_points(clip, queries, config, unchanged, None)
    yield Outcome(f"frozen {config.features.extractor}", frozen, *clip.log.spent("features", "matching"))
    fitted = fit_adapter(clip, config, features, flow)
    with clip.log.stage("adapter"):
        adapted = adapted_features(clip, config, features, fitted, config.adaptation.steps)
    fitting = ("features", "flow", "trajectories", "adaptation", "adapter")
    with clip.log.stage("matching adapted"):
        matched = track_points(clip, queries, config, adapted, None)
    yield Outcome(f"{name}, matching alone", matched, *clip.log.spent(*fitting, "matching adapted"))
    with clip.log.stage("tracking"):
        tracks = track_points(clip, queries, config, adapted, flow)
    yield Outcome(name, tracks, *clip.log.spent(*fitting, "tracking"))
