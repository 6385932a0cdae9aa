"""What the commands that go over many clips share: a job for each clip, and a run that ends in tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from t4g_tracker import __version__
from t4g_tracker.batch.cluster import device_there
from t4g_tracker.batch.html_report import Setup, write_report
from t4g_tracker.batch.journal import Journal
from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.run import run_batch
from t4g_tracker.batch.summary import summary_table, write_summary
from t4g_tracker.batch.worker_progress import clip_bar
from t4g_tracker.cache import Cache, make_key
from t4g_tracker.commands.batch_arguments import BatchRequest
from t4g_tracker.commands.guarded import stop_on_interrupt
from t4g_tracker.config import as_dict
from t4g_tracker.features.extractor import check_features
from t4g_tracker.flow.estimator import check_flow, resolve_flow, weights_stamp
from t4g_tracker.hardware import pick_device
from t4g_tracker.pipeline import Config
from t4g_tracker.stage_cache import Run
from t4g_tracker.stage_log import StageLog

EXIT_SOME_FAILED = 1
BUNDLED = ("track4gen-mini",)  # whose files only change with the program


@dataclass(frozen=True)
class Job(ABC):
    """What measuring any clip of a batch needs; sent to other processes."""

    configs: dict[str, Config]
    cache: Cache
    seed: int
    out: Path
    overlays: bool

    @abstractmethod
    def __call__(self, name: str, device: str) -> ClipOutcome:
        """Measure one clip on a device."""

    def run(self, name: str, device: torch.device) -> Run:
        """How the stages of one clip are run: cached, reporting to the bar of the batch."""
        return Run(
            device=device,
            seed=self.seed,
            cache=self.cache,
            bar=partial(clip_bar, name),
            stop=stop_on_interrupt,
            log=StageLog(peaks=True, device=device),
        )

    def config(self) -> Config:
        """The last configuration, the one whose tracks are shown."""
        return list(self.configs.values())[-1]


def with_changes(title: str, assignments: list[str]) -> str:
    """A title that names the settings given with ``--set``, which names of configurations do not tell."""
    return f"{title}; with {' '.join(assignments)}" if assignments else title


def check_run(request: BatchRequest, configs: Mapping[str, Config]) -> None:
    """Refuse what this machine cannot run, before any clip is made or read.

    Raises:
        ConfigError: If it has not that device or so many cores.
        WeightsError: If a model is not there.
    """
    if not request.machines.ray:
        pick_device(request.device)
    for config in configs.values():
        check_features(config.features)


def _named_weights(config: Config) -> str:
    """Digest of the model files that the user named: other ones may lie there when a run goes on."""
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
) -> int:
    """Measure what is missing, write the tables and say what came of it.

    Args:
        request: What was asked for.
        job: Measures a clip; ``check_run`` has passed its configurations.
        names: The clips.
        measures: Columns of the tables.
        identity: What decides the results besides settings and machine; plain JSON values.
        setup: What is said of it in the report.

    Returns:
        0, or 1 where a clip failed.
    """
    machines = request.machines
    device = device_there(machines.ray, request.device) if machines.ray else str(pick_device(request.device))
    configs, weights = {}, {}
    for name, config in job.configs.items():
        check_flow(config.flow)
        # settled here: other machines, or this one later, may have other weights
        configs[name] = replace(config, flow=resolve_flow(config.flow))
        weights[name] = _named_weights(configs[name])
    job = replace(job, configs=configs)
    identity = {
        **identity,
        "configurations": list(configs),  # in this order baselines get their names
        "settings": {name: as_dict(config) for name, config in configs.items()},
        "seed": request.seed,
        "device": device.partition(":")[0],
        "threads": machines.threads,
        "version": __version__,  # and so of the bundled models
    }
    if any(weights.values()):
        identity["weights"] = weights
    with Journal(request.out, identity, names, measures, request.fresh) as journal:
        run_batch(journal, job, machines, device, request.quiet)
        outcomes, failures = journal.ordered(), journal.failures()
        rows = write_summary(request.out, outcomes, measures, {"title": setup.title, **identity})
        write_report(request.out, outcomes, rows, measures, setup)
    if rows:
        print("\n".join(summary_table(rows, measures).console()))
    overlays = any(outcome.overlay for outcome in outcomes)
    print(f"{setup.title}; tables{', overlays' if overlays else ''} and report.html in {request.out}")
    for outcome in failures:
        print(f"failed: {outcome.clip}: {outcome.error}")
    return EXIT_SOME_FAILED if failures else 0
