"""Running a batch: what is missing is measured, each clip recorded as it ends, tables at the end."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import psutil
import torch
from tqdm import tqdm

from t4g_tracker.batch.cluster import measure_on_ray
from t4g_tracker.batch.journal import Journal
from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.tables import said, table_rows
from t4g_tracker.batch.workers import Measure, Share, measure_all
from t4g_tracker.errors import ConfigError
from t4g_tracker.hardware import cores

MEMORY_EACH_GB = 2.5  # for a clip at 480p, of which 1.6 were measured at most (docs/results.md)


@dataclass(frozen=True)
class Machines:
    """Where clips are measured, and what each may use."""

    workers: int = 0  # processes on this machine; 0: as many as its cores, GPUs and memory allow
    threads: int = 1  # cores for each clip; with others its results differ, as with another seed
    ray: str = ""  # address of a cluster; empty: this machine

    def __post_init__(self) -> None:
        if self.workers < 0 or self.threads < 1:
            raise ConfigError("--threads must be at least 1, and --workers 0 (as many as fit) or more")
        if self.ray and self.workers:
            raise ConfigError("--workers is of this machine; with --ray the cluster decides, by --threads")
        if not self.ray and max(1, self.workers) * self.threads > cores():
            raise ConfigError(
                f"--workers {self.workers or 1} with --threads {self.threads} need more than the {cores()} "
                "cores here; set one of them lower"
            )

    def workers_here(self, device: torch.device) -> int:
        """Processes on this machine."""
        if self.workers:
            return self.workers
        if device.type != "cpu":
            gpus = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
            return max(1, min(gpus, cores() // self.threads))
        free = psutil.virtual_memory().available / 1e9
        return max(1, min(cores() // self.threads, int(free / MEMORY_EACH_GB)))


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
    kept = len(journal.clips) - len(missing)
    if kept:
        tqdm.write(f"{kept} of {len(journal.clips)} clips are done already, in {journal.folder}")
    mean = running_mean(journal)
    unfinished, in_hand = set(missing), dict[str, str]()
    watched = sys.stderr.isatty()  # a log would get a line each time
    with tqdm(total=len(journal.clips), initial=kept, unit="clip", disable=quiet, dynamic_ncols=True) as bar:

        def tell(clip: str, where: str) -> None:
            if watched and clip in unfinished:  # and not told late
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
            coming = measure_all(missing, measure, share, tell)
        for outcome in coming:
            journal.add(outcome)
            unfinished.discard(outcome.clip)
            in_hand.pop(outcome.clip, None)
            mean = running_mean(journal)
            tqdm.write(clip_line(outcome))
            bar.update()
            show()


def clip_line(outcome: ClipOutcome) -> str:
    """What is said of a clip when it ends."""
    if outcome.error:
        return f"{outcome.clip:<24} failed: {outcome.error}"
    last = outcome.methods[-1]
    scores = "   ".join(f"{name} {said(value)}" for name, value in last.measures.items())
    return f"{outcome.clip:<24} {last.method}   {scores}   {last.seconds:.0f} s"


def running_mean(journal: Journal) -> str:
    """The mean so far of the last method's first measure."""
    rows = [row for row in table_rows(journal.ordered()) if row.scores.measures]
    if not rows:
        return ""
    name, value = next(iter(rows[-1].scores.measures.items()))
    return f"{name} {said(value)}"
