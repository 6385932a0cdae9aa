#!/usr/bin/env python
"""Track points through a video: python run_tracker.py --video x.mp4 --queries q.json

The table of contents: read, fit, track, write. ``fit_clip`` runs the stages that ``plan`` in
t4g_tracker/pipeline.py lays out in order; read on there. The mathematics is in t4g_tracker/features/
(frozen features), t4g_tracker/flow/, t4g_tracker/trajectories.py, adaptation/loop.py (the optimisation) and
t4g_tracker/tracking/tracker.py (matching).
"""

from __future__ import annotations

import sys

from t4g_tracker.commands.guarded import guarded, stop_on_interrupt
from t4g_tracker.commands.track import parse_track, track_states, write_everything


def main(argv: list[str] | None = None) -> int:
    """Run ``t4g track`` and return the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if any(argument.partition("=")[0] == "--davis" for argument in arguments):
        from t4g_tracker.commands.davis import main as davis

        return davis(arguments)
    return guarded(track, arguments)


def track(argv: list[str] | None) -> int:
    """Read, fit, track, write."""
    request = parse_track(argv)
    from t4g_tracker import Config, read_settings, read_video  # libraries load once the arguments are right
    from t4g_tracker.commands.points import read_foreground_of, request_queries, request_truth
    from t4g_tracker.commands.runs import run_of
    from t4g_tracker.features.extractor import check_features
    from t4g_tracker.files import prepare_output_folder
    from t4g_tracker.fitted import fit_clip
    from t4g_tracker.flow.estimator import check_named_weights
    from t4g_tracker.hardware import pick_device
    from t4g_tracker.pipeline import open_clip
    from t4g_tracker.results import closing_lines, describe
    from t4g_tracker.run_files import result_files

    # Read, and check everything before any long work.
    config = read_settings(Config(), request.config, request.assignments)
    pick_device(request.device)
    check_named_weights(config.flow)
    video = read_video(
        request.video, request.first_frames, frames=request.frames, start_frame=request.start_frame
    )
    queries = request_queries(request, video)
    truth = request_truth(request, video, queries)
    foreground = read_foreground_of(request, video, config)
    check_features(config.features)
    folder = prepare_output_folder(request.out or f"outputs/{video.name}")
    run = run_of(request, stop=stop_on_interrupt)

    # Fit: frozen features, optical flow, trajectories, adaptation.
    clip = open_clip(video, config, foreground)
    print(describe(video, queries, clip.size, run.device))
    fitted = fit_clip(clip, config, run)

    # Track: match the query points in every frame, and follow them along the flow.
    results = track_states(fitted, queries)

    # Write: tracks, pictures, a record of the run.
    results = write_everything(fitted, queries, results, truth, folder, vars(request))
    print("\n".join(closing_lines(folder, results, run.log, result_files(config.outputs))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
