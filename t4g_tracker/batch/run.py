"""Running a batch: measure the clips that are missing, and record each as it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from t4g_tracker.batch.cluster import measure_on_ray
from t4g_tracker.batch.journal import Journal
from t4g_tracker.batch.machines import Machines
from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.summary import summary_rows
from t4g_tracker.batch.workers import Measure, Share, measure_all
from t4g_tracker.tables import rounded


def run_batch(
    journal: Journal,
    measure: Measure,
    machines: Machines,
    device: str,
    quiet: bool,
) -> None:
    """Measure the clips that a journal lacks.

    A bar over the clips shows the running mean of the first measure of the last method, and the progress
    of the running clips; a line is printed for every clip that ends.

    Args:
        journal: An open journal.
        measure: Takes a clip's name and a device, returns its outcome; picklable.
        machines: Where to measure.
        device: "cuda" uses all GPUs in turn; on a cluster it is the result of ``cluster_device``.
        quiet: Show no bar.

    Raises:
        OutputError: If the journal cannot be written.
        ConfigError: If the cluster cannot be reached.
    """
    missing = journal.missing()
    done = len(journal.clips) - len(missing)
    if done:
        tqdm.write(f"{done} of {len(journal.clips)} clips are done already, in {journal.folder}")
    mean = running_mean(journal)
    unfinished, running = set(missing), dict[str, str]()
    watched = sys.stderr.isatty()  # in a log file every update would be a line
    with tqdm(total=len(journal.clips), initial=done, unit="clip", disable=quiet, dynamic_ncols=True) as bar:

        def report(clip: str, progress: str) -> None:
            if watched and clip in unfinished:  # reports may come late
                running[clip] = progress
                show()

        def show() -> None:
            progress = [f"{clip}: {progress}" for clip, progress in running.copy().items()]
            bar.set_postfix_str(", ".join(filter(None, [mean, *progress])))

        if machines.ray:
            outcomes = measure_on_ray(missing, measure, machines.threads, device, machines.ray)
        else:
            workers = machines.workers_here(torch.device(device))
            share = Share(workers, machines.threads, device, in_process=machines.workers == 1)
            outcomes = measure_all(missing, measure, share, report)
        for outcome in outcomes:
            journal.add(outcome)
            unfinished.discard(outcome.clip)
            running.pop(outcome.clip, None)
            mean = running_mean(journal)
            for line in outcome.warnings:
                tqdm.write(f"warning: {outcome.clip}: {line}", file=sys.stderr)
            tqdm.write(clip_line(outcome, journal.measures))
            bar.update()
            show()


def clip_line(outcome: ClipOutcome, measures: Sequence[str]) -> str:
    """Write the line that is printed when a clip ends."""
    if outcome.error:
        return f"{outcome.clip:<24} failed: {outcome.error}"
    last = outcome.methods[-1]
    scores = "   ".join(f"{name} {rounded(last.measures.get(name))}" for name in measures if last.measures)
    return f"{outcome.clip:<24} {last.name}   {scores}   {rounded(last.seconds, 0)} s"


def running_mean(journal: Journal) -> str:
    """Write the mean so far of the last method's first measure."""
    results = [row.result for row in summary_rows(journal.ordered()) if row.result.measures]
    if not results:
        return ""
    name, value = next(iter(results[-1].measures.items()))
    return f"{name} {rounded(value)}"
