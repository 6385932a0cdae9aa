"""``t4g compare-features``: frozen features of several extractors on one's own video, side by side.

Strings together the stages of one video, as ``t4g track`` does, and holds no mathematics.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from t4g_tracker.cache import Cache
from t4g_tracker.commands.arguments import guarded, request_queries, request_truth
from t4g_tracker.commands.comparison import (
    check_choices,
    choose_features,
    comparison_table,
    parse_compare,
    write_comparison,
)
from t4g_tracker.config import as_dict, read_settings
from t4g_tracker.coordinates import working_size
from t4g_tracker.datatypes import QueryPoints
from t4g_tracker.files import prepare_output_folder
from t4g_tracker.hardware import pick_device
from t4g_tracker.pipeline import (
    Clip,
    Config,
    features_are_kept,
    frozen_features,
    open_clip,
    track_points,
    unadapted_features,
)
from t4g_tracker.results import Result, describe, score_results
from t4g_tracker.stage_log import StageLog, progress_bar
from t4g_tracker.video import read_video


def compare_features(argv: list[str] | None = None) -> int:
    """``t4g compare-features``: returns the exit code."""
    return guarded(_compare_command, argv)


def _compare_command(argv: list[str] | None) -> int:
    request = parse_compare(argv)
    base = read_settings(Config(), request.config, request.assignments)
    chosen = choose_features(base.features, request.features)
    configs = {name: replace(base, features=features) for name, features in chosen.items()}
    device = pick_device(request.device)
    video = read_video(request.video, request.first_frames)
    queries = request_queries(request, video)
    truth = request_truth(request, video, queries)
    check_choices(chosen)
    folder = prepare_output_folder(request.out or f"outputs/{video.name}-features")
    cache = Cache.open(request.cache, request.fresh)

    clip = open_clip(video, base, cache, device, request.seed, bar=partial(progress_bar, quiet=request.quiet))
    print(describe(video, queries, working_size(video.size, base.working_size), device))
    results, tracking_seconds = list[Result](), dict[str, float]()
    for name, config in configs.items():
        result, tracking_seconds[name] = track_frozen(replace(clip, log=StageLog()), queries, config, name)
        results.append(result)
    if truth is not None:
        results = score_results(results, truth, queries, video)
    facts = {
        "video": request.video,
        "points": len(queries),
        "seed": request.seed,
        "device": str(device),
        "settings": {name: as_dict(config) for name, config in configs.items()},
    }
    with clip.bar("outputs", "file") as report:
        files = write_comparison(
            folder, video, queries, results, tracking_seconds, truth, base.outputs, facts, report
        )
    print("\n".join(comparison_table(results, tracking_seconds).console()))
    if truth is not None:
        print("scores in percent, scaled to 256x256, over all frames but each point's query frame")
    print(f"results in {folder}: {', '.join(sorted(files))}")
    return 0


def track_frozen(clip: Clip, queries: QueryPoints, config: Config, name: str) -> tuple[Result, float]:
    """The query points matched with frozen features alone, the same tracks as bench's ``frozen``.

    Returns:
        The result with the seconds of its features, and the seconds of tracking.
    """
    cached = features_are_kept(clip, config)
    features = frozen_features(clip, config)
    with clip.log.stage("matching"), clip.bar(name, "frame") as report:
        tracks = track_points(clip, queries, config, unadapted_features(clip, config, features), None, report)
    extracted = None if cached else clip.log.spent("features")[0]
    return Result(name, tracks, seconds=extracted), clip.log.spent("matching")[0]
