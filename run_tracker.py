#!/usr/bin/env python
"""Track points through a video: python run_tracker.py --video x.mp4 --queries q.json

The table of contents: read, fit, track, write. ``fit_clip`` runs the stages that ``plan`` in
t4g_tracker/pipeline.py lays out in order; read on there. The mathematics is in t4g_tracker/features/
(frozen features), t4g_tracker/flow/, t4g_tracker/trajectories.py, adaptation/loop.py (the optimisation) and
t4g_tracker/tracking/tracker.py (matching).
"""

from __future__ import annotations

import sys
from pathlib import Path

from t4g_tracker.commands.guarded import guarded, stop_on_interrupt
from t4g_tracker.commands.printing import say
from t4g_tracker.commands.track import parse_track, track_states, typed_command, write_everything


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
    from t4g_tracker import Config, read_settings  # libraries load once the arguments are right
    from t4g_tracker.commands.points import read_foreground_of, request_queries, request_truth, request_video
    from t4g_tracker.commands.runs import facts_of, folder_of, run_of
    from t4g_tracker.features.extractor import check_features
    from t4g_tracker.fitted import fit_clip
    from t4g_tracker.flow.estimator import check_named_weights
    from t4g_tracker.hardware import pick_device
    from t4g_tracker.outputs.run_files import RUN
    from t4g_tracker.outputs.run_record import Call
    from t4g_tracker.pipeline import open_clip
    from t4g_tracker.results import closing_lines, describe

    # Read, and check everything before any long work.
    call = Call(typed_command(argv), vars(request))
    config = read_settings(Config(), request.config, request.assignments)
    pick_device(request.device)
    check_named_weights(config.flow)
    video = request_video(request, config)
    queries = request_queries(request, video)
    truth = request_truth(request, video, queries)
    foreground = read_foreground_of(request, video, config)
    check_features(config.features)
    clip = open_clip(video, config, foreground)
    facts = facts_of(request, clip, queries)
    with folder_of(request, request.out, Path("outputs") / video.name, facts, RUN) as folder:
        run = run_of(request, stop=stop_on_interrupt)
        say(describe(video, queries, clip.size, run.device))

        # Fit: frozen features, optical flow, trajectories, adaptation.
        fitted = fit_clip(clip, config, run)

        # Track: match the query points in every frame, and follow them along the flow.
        results = track_states(fitted, queries)

        # Write: tracks, pictures, a record of the run.
        results, files = write_everything(fitted, queries, results, truth, folder, facts, call)
        say("\n".join(closing_lines(folder, results, run.log, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
