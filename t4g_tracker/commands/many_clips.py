"""The shared part of commands over many clips: a job for each clip, and a run that ends in tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from t4g_tracker import __version__
from t4g_tracker.batch.cluster import cluster_device
from t4g_tracker.batch.html_report import Setup, write_report
from t4g_tracker.batch.journal import Journal
from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.run import run_batch
from t4g_tracker.batch.summary import summary_table, write_summary
from t4g_tracker.batch.worker_progress import clip_bar
from t4g_tracker.commands.batch_arguments import BatchRequest
from t4g_tracker.commands.guarded import stop_on_interrupt
from t4g_tracker.commands.printing import say
from t4g_tracker.diagnosis.tables import write_diagnosis
from t4g_tracker.features.extractor import check_features
from t4g_tracker.flow.estimator import check_flow, resolve_flow, weights_stamp
from t4g_tracker.hardware import pick_device
from t4g_tracker.pipeline import Config
from t4g_tracker.stage_cache import Run
from t4g_tracker.stage_log import StageLog
from t4g_tracker.storage.cache import Cache, make_key
from t4g_tracker.storage.files import plain_values

EXIT_SOME_FAILED = 1
BUNDLED = ("track4gen-mini",)  # extractors whose files change only with the program


@dataclass(frozen=True)
class Job(ABC):
    """The work on each clip of a batch, with all that it needs; sent to other processes."""

    configs: dict[str, Config]
    cache: Cache
    seed: int
    out: Path
    overlays: bool

    @abstractmethod
    def __call__(self, name: str, device: str) -> ClipOutcome:
        """Process one clip on a device."""

    def run(self, name: str, device: torch.device) -> Run:
        """Where and how the stages of one clip run: cached, and reporting to the batch's bar."""
        return Run(
            device=device,
            seed=self.seed,
            cache=self.cache,
            bar=partial(clip_bar, name),
            stop=stop_on_interrupt,
            log=StageLog(peaks=True, device=device),
        )

    def config(self) -> Config:
        """The last configuration, whose tracks are shown."""
        return list(self.configs.values())[-1]


def with_changes(title: str, assignments: list[str]) -> str:
    """Add to a title the settings of ``--set``, which the names of configurations do not show."""
    return f"{title}; with {' '.join(assignments)}" if assignments else title


def check_run(request: BatchRequest, configs: Mapping[str, Config]) -> None:
    """Check, before any clip is made or read, that this machine can run the request.

    Raises:
        ConfigError: If it lacks the device or the cores.
        WeightsError: If a model is missing.
    """
    if not request.machines.ray:
        pick_device(request.device)
    for config in configs.values():
        check_features(config.features)


def _named_weights(config: Config) -> str:
    """Digest the model files that the user named: they may be others when a run resumes."""
    features = "" if config.features.extractor in BUNDLED else check_features(config.features)
    flow = weights_stamp(config.flow) if config.flow.weights else ""
    return make_key(features=features, flow=flow) if features or flow else ""


def run_job(
    request: BatchRequest,
    job: Job,
    names: list[str],
    measures: tuple[str, ...],
    identity: Mapping[str, object],
    setup: Setup,
    diagnose: bool = False,
    further: tuple[str, ...] = (),
    show_further: bool = False,
) -> int:
    """Process the clips that are missing, write the tables and print a summary.

    Args:
        request: The command's arguments.
        job: Processes a clip; ``check_run`` has passed its configurations.
        names: The clips.
        measures: Main columns of the tables.
        identity: What decides the results besides settings and machine; plain JSON values.
        setup: Description of the run for the report.
        diagnose: Every clip needs a diagnosis; write and print their tables.
        further: Columns of results.csv and figures of summary.json beside the main ones.
        show_further: The other tables have these columns too.

    Returns:
        0, or 1 if a clip failed.
    """
    machines = request.machines
    if machines.ray:
        device = cluster_device(machines.ray, request.device)
    else:
        device = str(pick_device(request.device))
    configs, weights = {}, {}
    for name, config in job.configs.items():
        check_flow(config.flow)
        # resolved here: other machines, or this one later, may have other weights
        configs[name] = replace(config, flow=resolve_flow(config.flow))
        weights[name] = _named_weights(configs[name])
    job = replace(job, configs=configs)
    identity = {
        **identity,
        "configurations": list(configs),  # their order decides the names of baselines
        "settings": {name: plain_values(config) for name, config in configs.items()},
        "seed": request.seed,
        "device": device.partition(":")[0],
        "threads": machines.threads,
        "version": __version__,  # and so of the bundled models
    }
    if any(weights.values()):
        identity["weights"] = weights
    with Journal(request.out, identity, names, measures, request.fresh, diagnose, further) as journal:
        shown = (*measures, *further) if show_further else measures
        run_batch(journal, job, machines, device, request.quiet)
        outcomes, failures = journal.ordered(), journal.failures()
        rows = write_summary(request.out, outcomes, shown, {"title": setup.title, **identity})
        write_report(request.out, outcomes, rows, shown, setup)
        diagnoses = {o.clip: o.diagnosis for o in outcomes if diagnose and o.diagnosis is not None}
        diagnosed = write_diagnosis(request.out, diagnoses, setup.title) if diagnoses else []
    if rows:
        say("\n".join([*summary_table(rows, shown).console(), *diagnosed]))
    overlays = any(outcome.overlay for outcome in outcomes)
    files = f"tables{', overlays' if overlays else ''}{', diagnosis.md' if diagnosed else ''} and report.html"
    say(f"{setup.title}; {files} in {request.out}")
    for outcome in failures:
        say(f"failed: {outcome.clip}: {outcome.error}")
    return EXIT_SOME_FAILED if failures else 0
