"""Running a batch: what is missing is measured, each clip recorded as it ends, tables at the end."""

from __future__ import annotations

import sys

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
    """Measure the clips that a journal misses.

    One bar over the clips shows the running mean of the first measure of the last method, and how far the
    clips in hand are; a line is printed for every clip that ends.

    Args:
        journal: Open.
        measure: From a clip's name and a device to its outcome; picklable.
        machines: Where.
        device: "cuda" takes all GPUs in turn; with a cluster as ``device_there`` says.
        quiet: No bar.

    Raises:
        OutputError: If the journal cannot be written.
        ConfigError: If the cluster cannot be reached.
    """
    missing = journal.missing()
    done = len(journal.clips) - len(missing)
    if done:
        tqdm.write(f"{done} of {len(journal.clips)} clips are done already, in {journal.folder}")
    mean = running_mean(journal)
    unfinished, in_hand = set(missing), dict[str, str]()
    watched = sys.stderr.isatty()  # a log would get a line each time
    with tqdm(total=len(journal.clips), initial=done, unit="clip", disable=quiet, dynamic_ncols=True) as bar:

        def report(clip: str, where: str) -> None:
            if watched and clip in unfinished:  # reports may come late
                in_hand[clip] = where
                show()

        def show() -> None:
            doing = [f"{clip}: {where}" for clip, where in in_hand.copy().items()]
            bar.set_postfix_str(", ".join(filter(None, [mean, *doing])))

        if machines.ray:
            coming = measure_on_ray(missing, measure, machines.threads, device, machines.ray)
        else:
            workers = machines.workers_here(torch.device(device))
            share = Share(workers, machines.threads, device, in_process=machines.workers == 1)
            coming = measure_all(missing, measure, share, report)
        for outcome in coming:
            journal.add(outcome)
            unfinished.discard(outcome.clip)
            in_hand.pop(outcome.clip, None)
            mean = running_mean(journal)
            tqdm.write(clip_line(outcome))
            bar.update()
            show()


def clip_line(outcome: ClipOutcome) -> str:
    """What is printed for a clip when it ends."""
    if outcome.error:
        return f"{outcome.clip:<24} failed: {outcome.error}"
    last = outcome.methods[-1]
    scores = "   ".join(f"{name} {rounded(value)}" for name, value in last.measures.items())
    return f"{outcome.clip:<24} {last.name}   {scores}   {rounded(last.seconds, 0)} s"


def running_mean(journal: Journal) -> str:
    """The mean so far of the last method's first measure."""
    results = [row.result for row in summary_rows(journal.ordered()) if row.result.measures]
    if not results:
        return ""
    name, value = next(iter(results[-1].measures.items()))
    return f"{name} {rounded(value)}"
