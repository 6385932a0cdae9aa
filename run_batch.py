"""The commands that go over many clips: ``t4g bench``, which compares trackers on annotated clips, and
``run_tracker.py --davis``, which tracks the sequences of a DAVIS folder.

They string together the stages of run_tracker.py for each clip, and hold no mathematics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from run_tracker import (
    Clip,
    Config,
    adapted_features,
    chained_flow_tracks,
    fit_adapter,
    frozen_features,
    frozen_features_key,
    open_clip,
    optical_flow,
    optical_flow_key,
    track_and_write,
    track_points,
    unadapted_features,
)
from t4g_tracker.batch.journal import Journal
from t4g_tracker.batch.outcomes import ClipOutcome, Line, WorstTrack
from t4g_tracker.batch.report import Setup, write_report
from t4g_tracker.batch.request import (
    BatchRequest,
    DavisRequest,
    check_names,
    parse_bench,
    parse_davis,
    varied,
)
from t4g_tracker.batch.run import run_batch
from t4g_tracker.batch.tables import terminal_lines, write_summary
from t4g_tracker.cache import Cache
from t4g_tracker.command_line import guarded, pick_device, read_settings
from t4g_tracker.config import as_dict
from t4g_tracker.coordinates import working_size
from t4g_tracker.datasets import AnnotatedClips, DatasetChoice
from t4g_tracker.datasets.annotated import AnnotatedClip, View
from t4g_tracker.datasets.davis import DavisFolder
from t4g_tracker.datasets.protocols import PointProtocol, TrackingProtocol
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.errors import QueryError
from t4g_tracker.features import check_features
from t4g_tracker.flow import check_flow, resolve_flow
from t4g_tracker.masks import read_foreground
from t4g_tracker.outputs import prepare_output_folder
from t4g_tracker.queries import grid_queries, read_mask, read_queries
from t4g_tracker.video import read_video
from t4g_tracker.visualize.overlay import draw_overlay, write_video

WORST_OF_A_CLIP = 10
DEFAULT_GRID = 8
EXIT_SOME_FAILED = 1


@dataclass(frozen=True)
class Job:
    """What measuring any clip of a batch needs; sent to other processes."""

    configs: dict[str, Config]
    cache: Cache
    seed: int
    out: Path
    overlays: bool

    def __call__(self, name: str, device: str) -> ClipOutcome:
        raise NotImplementedError

    def config(self) -> Config:
        """The last configuration, the one whose tracks are shown."""
        return list(self.configs.values())[-1]


@dataclass(frozen=True)
class BenchJob(Job):
    """Measures one clip of a data set; see ``bench_methods`` for what on it."""

    choice: DatasetChoice

    def __call__(self, name: str, device: str) -> ClipOutcome:
        annotated = self.choice.view.of(_opened(self.choice).load(name))
        protocol = self.choice.protocol
        queries, which = protocol.ask(annotated)
        lines, tracks = [], None
        for outcome in self._methods(annotated, queries, torch.device(device)):
            measures = protocol.score(annotated, queries, which, outcome.tracks)
            lines.append(Line(outcome.method, measures, outcome.seconds, outcome.peak_memory_mb))
            tracks = outcome.tracks
        assert tracks is not None
        overlay = self._draw(name, annotated, queries, tracks) if self.overlays else ""
        worst = worst_tracks(protocol, annotated, queries, which, tracks)
        return ClipOutcome(name, tuple(lines), worst, annotated.video.frame_count, overlay)

    def _methods(
        self, annotated: AnnotatedClip, queries: QueryPoints, device: torch.device
    ) -> Iterator[Outcome]:
        """Every configuration's methods; a baseline that two share is measured once."""
        seen: dict[str, str] = {}
        for name, config in self.configs.items():
            clip = open_clip(annotated.video, config, self.cache, device, self.seed, quiet=True)
            yield from bench_methods(clip, queries, config, name, seen)

    def _draw(self, name: str, annotated: AnnotatedClip, queries: QueryPoints, tracks: Tracks) -> str:
        settings, folder = self.config().outputs, prepare_output_folder(self.out / "overlays")
        pictures = draw_overlay(annotated.video, tracks, queries, settings.trail_frames, settings.dim)
        write_video(folder / f"{name}.mp4", pictures, annotated.video.fps)
        return f"overlays/{name}.mp4"


@dataclass(frozen=True)
class DavisJob(Job):
    """Tracks one sequence of a DAVIS folder and writes its results."""

    folder: DavisFolder
    mode: str
    grid: int | None
    queries: Path | None
    foreground: bool

    def __call__(self, name: str, device: str) -> ClipOutcome:
        config, protocol = self.config(), PointProtocol(self.mode)  # type: ignore[arg-type]
        asked_for = self.grid is not None or self.queries is not None
        annotated = None if asked_for else self.folder.annotated(name)
        video = annotated.video if annotated else read_video(self.folder.frames(name))
        truth = which = None
        if annotated is not None:
            queries, which = protocol.ask(annotated)
            seen = annotated.visibility[which]
            truth = Tracks(annotated.xy[which], seen, torch.ones(seen.shape))
        elif self.queries is not None:
            queries = read_queries(query_file(self.queries, name), video)
        else:
            mask = read_mask(self.folder.first_mask(name), video)
            queries = grid_queries(video, self.grid or DEFAULT_GRID, 0, mask)
        inside = None
        if self.foreground:
            size = working_size(video.size, config.working_size)
            inside = read_foreground(self.folder.masks(name), video, size)
        clip = open_clip(video, config, self.cache, torch.device(device), self.seed, inside, quiet=True)
        arguments = {"davis": str(self.folder.root), "sequence": name, "mode": self.mode}
        rows = track_and_write(clip, queries, config, truth, self.out / name, arguments)
        seconds, peak = clip.log.spent(*clip.log.stages)
        overlay = f"{name}/overlay.mp4" if config.outputs.overlay else ""
        if annotated is None or which is None:
            line = Line("tracked", {}, seconds, peak)
            return ClipOutcome(name, (line,), (), video.frame_count, overlay)
        lines = tuple(
            Line(row.label, protocol.score(annotated, queries, which, row.tracks), seconds, peak)
            for row in rows
        )
        worst = worst_tracks(protocol, annotated, queries, which, rows[-1].tracks)
        return ClipOutcome(name, lines, worst, video.frame_count, overlay)


@dataclass(frozen=True)
class Outcome:
    """Tracks that one method gave for a clip, and what they took."""

    method: str
    tracks: Tracks
    seconds: float
    peak_memory_mb: float


@lru_cache(maxsize=1)
def _opened(choice: DatasetChoice) -> AnnotatedClips:
    """The data set, looked into once a process."""
    return choice.open()


def worst_tracks(
    protocol: TrackingProtocol,
    annotated: AnnotatedClip,
    queries: QueryPoints,
    which: torch.Tensor,
    tracks: Tracks,
) -> tuple[WorstTrack, ...]:
    """The tracks of a clip that are farthest from the truth on average."""
    error = protocol.error_px(annotated, queries, which, tracks)
    ranked = error.nan_to_num(-1).argsort(descending=True)[:WORST_OF_A_CLIP].tolist()
    return tuple(
        WorstTrack(queries.names[index], round(float(error[index]), 3))
        for index in ranked
        if error[index] >= 0
    )


def bench_methods(
    clip: Clip, queries: QueryPoints, config: Config, name: str, seen: dict[str, str]
) -> Iterator[Outcome]:
    """Both baselines and the adapted tracker on one clip, each with what it took.

    Baselines in ``seen``, methods by what they depend on, are left out; those measured are added.
    """
    flow = optical_flow(clip, config)
    key = f"{optical_flow_key(clip, config)} {config.trajectories.cycle_threshold_px}"
    if key not in seen:
        with clip.log.stage("chain"):
            chained = chained_flow_tracks(clip, queries, config, flow)
        method = seen[key] = _new_name(f"chained {resolve_flow(config.flow).method}", name, seen)
        yield Outcome(method, chained, *clip.log.spent("flow", "chain"))
    features = frozen_features(clip, config)
    key = f"{frozen_features_key(clip, config)} {config.tracking} {config.visibility}"
    if key not in seen:
        with clip.log.stage("matching"):
            unchanged = unadapted_features(clip, config, features)
            frozen = track_points(clip, queries, config, unchanged, None)
        spent = clip.log.spent("features", "matching")
        method = seen[key] = _new_name(f"frozen {config.features.extractor}", name, seen)
        yield Outcome(method, frozen, *spent)
    fitted = fit_adapter(clip, config, features, flow)
    with clip.log.stage("adapter"):
        adapted = adapted_features(clip, config, features, fitted, config.adaptation.steps)
    fitting = ("features", "flow", "trajectories", "adaptation", "adapter")
    with clip.log.stage("matching adapted"):
        matched = track_points(clip, queries, config, adapted, None)
    yield Outcome(f"{name}, matching alone", matched, *clip.log.spent(*fitting, "matching adapted"))
    with clip.log.stage("tracking"):
        tracks = track_points(clip, queries, config, adapted, flow)
    yield Outcome(name, tracks, *clip.log.spent(*fitting, "tracking"))


def _new_name(method: str, config: str, seen: dict[str, str]) -> str:
    """The name of a baseline; with that of its configuration where another one has it already."""
    return f"{method}, {config}" if method in seen.values() else method


def bench(argv: list[str] | None = None) -> int:
    """``t4g bench``: returns the exit code, 1 where a clip failed."""
    return guarded(_bench_command, argv)


def _bench_command(argv: list[str] | None) -> int:
    request = parse_bench(argv)
    base = read_settings(Config(), request.config, request.assignments)
    check_names([file.stem for file in request.configs])
    configs = {file.stem: read_settings(base, file, request.assignments) for file in request.configs}
    for name, assignments in varied(request.vary).items():
        configs[name] = read_settings(base, None, assignments)
    configs = configs or {request.config.stem if request.config else "default": base}
    view = View(request.resolution or ("stored" if request.data else "480p"), request.first_frames)
    path = request.data or request.path
    assert path is not None
    choice = DatasetChoice(request.dataset or "folder", path, request.mode, view, tuple(request.clips or ()))
    clips = choice.open()
    names = choice.names(clips)
    title = choice.describe()
    identity = {"what": "bench", "data": str(path), "protocol": title}
    setup = Setup(
        title,
        choice.dataset,
        request.mode,
        view.resolution,
        view.first_frames,
        len(names),
        len(clips.names()),
    )
    job = BenchJob(configs, _cache(request), request.seed, request.out, request.overlays, choice)
    return _run(request, job, names, choice.protocol.measures, identity, setup)


def davis(argv: list[str] | None = None) -> int:
    """``run_tracker.py --davis``: returns the exit code, 1 where a sequence failed."""
    return guarded(_davis_command, argv)


def _davis_command(argv: list[str] | None) -> int:
    request = parse_davis(argv)
    config = read_settings(Config(), request.config, request.assignments)
    config = replace(config, outputs=replace(config.outputs, overlay=request.overlays))
    folder = DavisFolder(request.davis, request.tapvid)
    names = folder.sequences(request.split, request.sequences)
    _check_queries(request, folder, names)
    annotated = request.grid is None and request.queries is None and folder.has_annotations()
    measures = PointProtocol.measures if annotated else ()
    asked = PointProtocol(request.mode).describe() if annotated else "points asked for"
    identity = {
        "what": "davis",
        "data": str(request.davis),
        "points": asked,
        "grid": request.grid,
        "queries": str(request.queries),
        "foreground": request.foreground,
    }
    job = DavisJob(
        {"tracked": config},
        _cache(request),
        request.seed,
        request.out,
        request.overlays,
        folder,
        request.mode,
        request.grid,
        request.queries,
        request.foreground,
    )
    dataset = "tapvid-davis" if annotated else "davis"
    setup = Setup(
        f"DAVIS, {asked}, 480p, all frames", dataset, request.mode, "480p", 0, len(names), len(names)
    )
    return _run(request, job, names, measures, identity, setup)


def query_file(folder: Path, name: str) -> Path:
    """The query file of a sequence.

    Raises:
        QueryError: If there is none.
    """
    for suffix in (".json", ".csv", ".npy", ".npz"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise QueryError(f"{folder}: has no {name}.json, .csv, .npy or .npz; leave {name} out with --sequences")


def _check_queries(request: DavisRequest, folder: DavisFolder, names: list[str]) -> None:
    """Make sure that every sequence has its points, before any work."""
    for name in names:
        if request.queries is not None:
            query_file(request.queries, name)
        elif request.grid is not None or not folder.has_annotations():
            folder.first_mask(name)


def _cache(request: BatchRequest) -> Cache:
    return Cache.open(request.cache, request.fresh)


def _run(
    request: BatchRequest,
    job: Job,
    names: list[str],
    measures: tuple[str, ...],
    identity: Mapping[str, object],
    setup: Setup,
) -> int:
    """Measure what is missing, write the tables and say what came of it."""
    for config in job.configs.values():
        check_features(config.features)
        check_flow(config.flow)
    device, machines = pick_device(request.device), request.machines
    identity = {
        **identity,
        "settings": {name: as_dict(config) for name, config in job.configs.items()},
        "seed": request.seed,
        "device": device.type,
        "threads": machines.threads,
    }
    with Journal(request.out, identity, names, measures, request.fresh) as journal:
        run_batch(journal, job, machines, device, request.quiet)
        outcomes, failures = journal.ordered(), journal.failures()
        rows = write_summary(request.out, outcomes, measures, {"title": setup.title, **identity})
        write_report(request.out, outcomes, rows, measures, setup)
    print("\n".join(terminal_lines(rows, measures)))
    print(f"{setup.title}; tables, report.html and overlays in {request.out}")
    for outcome in failures:
        print(f"failed: {outcome.clip}: {outcome.error}")
    return EXIT_SOME_FAILED if failures else 0
