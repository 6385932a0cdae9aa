#!/usr/bin/env python
"""Track points through a video: python run_tracker.py --video x.mp4 --queries q.json

The stages in order; each is in pipeline/stages.py, which keeps what it comes to between runs, and
the mathematics is one call further: frozen features in t4g_tracker/features, the optimisation in
adaptation/loop.py, matching in t4g_tracker/tracking.py.
"""

from __future__ import annotations

import sys
from functools import partial

from t4g_tracker.cache import Cache
from t4g_tracker.commands.arguments import guarded, parse_track, request_queries, request_truth
from t4g_tracker.config import read_settings
from t4g_tracker.coordinates import working_size
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.features.extractor import check_features
from t4g_tracker.files import prepare_output_folder
from t4g_tracker.flow.estimator import check_flow
from t4g_tracker.hardware import pick_device
from t4g_tracker.masks import read_foreground
from t4g_tracker.pipeline import (
    Clip,
    Config,
    adapted_features,
    fit_adapter,
    frozen_features,
    open_clip,
    optical_flow,
    track_points,
    track_snapshots,
    write_everything,
)
from t4g_tracker.results import closing_lines, describe
from t4g_tracker.run_files import result_files
from t4g_tracker.stage_log import progress_bar
from t4g_tracker.video import read_video


def track_video(clip: Clip, queries: QueryPoints, config: Config) -> Tracks:
    """Fit an adapter to the video and follow the query points with it."""
    features = frozen_features(clip, config)
    flow = optical_flow(clip, config)
    fitted = fit_adapter(clip, config, features, flow)
    adapted = adapted_features(clip, config, features, fitted, config.adaptation.steps)
    return track_points(clip, queries, config, adapted, flow)


def main(argv: list[str] | None = None) -> int:
    """``t4g track``: returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if any(argument.partition("=")[0] == "--davis" for argument in arguments):
        from t4g_tracker.commands.davis import davis

        return davis(arguments)
    return guarded(_track_command, arguments)


def _track_command(argv: list[str] | None) -> int:
    request = parse_track(argv)
    config = read_settings(Config(), request.config, request.assignments)
    device = pick_device(request.device)
    video = read_video(request.video, request.first_frames)
    queries = request_queries(request, video)
    truth = request_truth(request, video, queries)
    foreground = None
    if request.foreground is not None:
        size = working_size(video.size, config.working_size)
        foreground = read_foreground(request.foreground, video, size, request.first_frames)
    check_features(config.features)
    check_flow(config.flow)
    folder = prepare_output_folder(request.out or f"outputs/{video.name}")
    cache = Cache.open(request.cache, request.fresh)

    bar = partial(progress_bar, quiet=request.quiet)
    clip = open_clip(video, config, cache, device, request.seed, foreground, bar)
    print(describe(video, queries, working_size(video.size, config.working_size), device))
    features = frozen_features(clip, config)
    flow = optical_flow(clip, config)
    fitted = fit_adapter(clip, config, features, flow)
    rows = track_snapshots(clip, queries, config, features, flow, fitted)
    asked = {name: str(value) for name, value in vars(request).items()}
    rows = write_everything(clip, queries, config, fitted, rows, truth, folder, asked)
    print("\n".join(closing_lines(folder, rows, clip.log, result_files(config.outputs))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
