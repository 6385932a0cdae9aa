"""Measuring several methods on one annotated clip: the job that ``t4g bench`` sends to its workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.commands.many_clips import Job
from t4g_tracker.datasets.annotated import AnnotatedClip
from t4g_tracker.datasets.choice import AnnotatedClips, DatasetChoice
from t4g_tracker.datasets.protocols import WorstTrack, worst_tracks
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.diagnosis.candidates import match_peaks
from t4g_tracker.diagnosis.clip import Diagnosis, diagnose
from t4g_tracker.diagnosis.pictures import Tracked, worst_picture
from t4g_tracker.diagnosis.tables import FOLDER
from t4g_tracker.fitted import Fitted, fit_clip
from t4g_tracker.flow.estimator import resolve_flow
from t4g_tracker.outputs.run_files import write_overlay
from t4g_tracker.pipeline import open_clip
from t4g_tracker.results import Result
from t4g_tracker.stage_cache import Run
from t4g_tracker.stage_log import StageLog
from t4g_tracker.storage.files import prepare_output_folder
from t4g_tracker.visualize.encoding import write_picture

WORST_PAINTED = 3  # tracks of each clip in its picture


@dataclass(frozen=True)
class BenchJob(Job):
    """Scores every method of ``bench_methods`` on one clip of a data set."""

    choice: DatasetChoice
    diagnose: bool = False

    def __call__(self, name: str, device: str) -> ClipOutcome:
        annotated = self.choice.view.of(_opened(self.choice).load(name))
        protocol = self.choice.protocol
        queries, track_index = protocol.queries(annotated)
        scored: list[Result] = []
        for result in self._methods(name, annotated, queries, torch.device(device)):
            tracks = result.own_tracks
            measures = protocol.score(annotated, queries, track_index, tracks)
            scored.append(replace(result, measures=measures, tracks=None))
        overlay = self._overlay(name, annotated, queries, tracks) if self.overlays else ""
        worst = worst_tracks(protocol, annotated, queries, track_index, tracks)
        diagnosis = None
        if self.diagnose:
            run = self.run(name, torch.device(device))
            diagnosis = self._diagnose(run, name, annotated, queries, track_index, tracks, worst)
        return ClipOutcome(
            name, tuple(scored), worst, annotated.video.frame_count, overlay, diagnosis=diagnosis
        )

    def _methods(
        self, clip_name: str, annotated: AnnotatedClip, queries: QueryPoints, device: torch.device
    ) -> Iterator[Result]:
        """Run every configuration's methods; a baseline that two configurations share runs once."""
        seen: dict[str, str] = {}
        for name, config in self.configs.items():
            clip, run = open_clip(annotated.video, config), self.run(clip_name, device)
            # no name for it here: it would live on while the next configuration is fitted
            yield from bench_methods(fit_clip(clip, config, run), queries, name, seen)

    def _overlay(self, name: str, annotated: AnnotatedClip, queries: QueryPoints, tracks: Tracks) -> str:
        folder = prepare_output_folder(self.out / "overlays")
        write_overlay(folder / f"{name}.mp4", annotated.video, queries, tracks, self.config().outputs)
        return f"overlays/{name}.mp4"

    def _diagnose(
        self,
        run: Run,
        name: str,
        annotated: AnnotatedClip,
        queries: QueryPoints,
        which: Tensor,
        tracks: Tracks,
        worst: Sequence[WorstTrack],
    ) -> Diagnosis:
        """Diagnose ``tracks``, of the last configuration, and flow alone; paint the worst tracks.

        It reads the cached stages again, so that it is no part of the seconds and memory of any method.
        """
        config_name, config = list(self.configs.items())[-1]
        video, truth = annotated.video, annotated.truth
        fitted = fit_clip(open_clip(video, config), config, run)
        features = replace(fitted.adapted, values=fitted.adapted.values.to(run.device))
        head = fitted.stages.adaptation.value.head()
        peaks, _ = match_peaks(
            features, queries, video.size, config.matching, config.tracking.candidates, head
        )
        by_flow = f"flow alone, {resolve_flow(config.flow).method}"
        methods = {by_flow: fitted.follow(queries), config_name: tracks}
        diagnosis = diagnose(
            methods, truth, queries, which, video.size, self.choice.mode, peaks, fitted.motion
        )
        painted = [queries.names.index(track.track) for track in worst[:WORST_PAINTED]]
        if not painted:  # no point is visible in any other frame than its query's
            return diagnosis
        folder = prepare_output_folder(self.out / FOLDER)
        tracked = Tracked(video, queries, tracks, truth.subset(which), features, peaks)
        write_picture(folder / f"{name}.png", worst_picture(tracked, painted))
        return replace(diagnosis, picture=f"{FOLDER}/{name}.png")


@lru_cache(maxsize=1)
def _opened(choice: DatasetChoice) -> AnnotatedClips:
    """Open the data set, once per process."""
    return choice.open()


def bench_methods(fitted: Fitted, queries: QueryPoints, name: str, seen: dict[str, str]) -> Iterator[Result]:
    """Track one clip by both baselines and the adapted tracker, and record the cost of each.

    ``seen`` holds the names of baselines by what they depend on: those in it are skipped, new ones added.
    """
    config, log, stages = fitted.config, fitted.run.log, fitted.stages
    key = f"{stages.flow.key} {config.motion} {config.visibility.largest_cost} {fitted.clip.size}"
    if key not in seen:
        with log.stage("following"):
            followed = fitted.follow(queries)
        method = seen[key] = _new_name(f"flow alone, {resolve_flow(config.flow).method}", name, seen)
        yield _result(log, method, followed, "flow", "query_flow", "following")
    adapter = (config.adaptation.adapter, config.adaptation.head, config.adaptation.precision)
    tracking = config.tracking
    refinement = (tracking.subpixel, tracking.subpixel_reach_px, tracking.subpixel_window_px)
    key = f"{stages.prepared.key} {adapter} {config.matching} {refinement} {config.visibility}"
    if key not in seen:
        with log.stage("matching"):
            frozen = fitted.match(queries, step=0)
        method = seen[key] = _new_name(f"frozen {config.features.extractor}", name, seen)
        yield _result(log, method, frozen, "features", "matching")
    with log.stage("adapter"):
        _ = fitted.adapted  # computed here, so that matching is timed alone
    fitting = ("features", "flow", "trajectories", "buddies", "adaptation", "adapter")
    with log.stage("matching adapted"):
        matched = fitted.match(queries)
    yield _result(log, f"{name}, matching alone", matched, *fitting, "matching adapted")
    with log.stage("tracking"):
        tracks = fitted.track(queries)
    yield _result(log, name, tracks, *fitting, "query_flow", "tracking")


def _result(log: StageLog, method: str, tracks: Tracks, *stages: str) -> Result:
    seconds, peak_memory_mb = log.spent(*stages)
    return Result(method, tracks, seconds=seconds, peak_memory_mb=peak_memory_mb)


def _new_name(method: str, config: str, seen: dict[str, str]) -> str:
    """Name a baseline; add the name of its configuration if another baseline is called the same."""
    return f"{method}, {config}" if method in seen.values() else method
