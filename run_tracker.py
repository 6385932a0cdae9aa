#!/usr/bin/env python
"""Track points through a video: python run_tracker.py --video x.mp4 --queries q.json

The table of contents: read, fit, track, write. ``fit_clip`` runs the stages that ``plan`` in
t4g_tracker/pipeline.py lays out in order; read on there. The mathematics is in t4g_tracker/features/
(frozen features), t4g_tracker/flow/, t4g_tracker/motion/ (points along flow), adaptation/loop.py (the
optimisation) and t4g_tracker/tracking/ (matching, joined with flow).
"""

from __future__ import annotations

import sys

from t4g_tracker.commands.guarded import guarded, stop_on_interrupt
from t4g_tracker.commands.printing import say
from t4g_tracker.commands.track import call_of, parse_track, track_states, write_everything


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
    from t4g_tracker.commands.points import read_inputs
    from t4g_tracker.commands.runs import open_run
    from t4g_tracker.fitted import fit_clip
    from t4g_tracker.pipeline import open_clip
    from t4g_tracker.results import closing_lines

    # Read, and check everything before any long work.
    call = call_of(argv, request)
    config = read_settings(Config(), request.config, request.assignments)
    inputs = read_inputs(request, config)
    clip = open_clip(inputs.video, config, inputs.foreground, inputs.arrays)
    with open_run(request, clip, inputs.queries, call, stop=stop_on_interrupt) as (run, destination):
        # Fit: frozen features, optical flow, trajectories, adaptation.
        fitted = fit_clip(clip, config, run)

        # Track: match the query points in every frame, and follow them along the flow.
        results = track_states(fitted, inputs.queries)

        # Write: tracks, pictures, a record of the run.
        results, files = write_everything(fitted, inputs, results, destination)
        lines = closing_lines(destination.folder, results, run.log, files, fitted.trust_note)
        say("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
