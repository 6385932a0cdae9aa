"""``run_tracker.py --davis``: every sequence of a DAVIS folder, as if each were tracked alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from t4g_tracker.batch.html_report import Setup
from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.worker_progress import clip_bar
from t4g_tracker.cache import Cache
from t4g_tracker.choices import QueryMode
from t4g_tracker.commands.arguments import guarded
from t4g_tracker.commands.batch_arguments import DavisRequest, parse_davis
from t4g_tracker.commands.many_clips import Job, check_run, run_job, with_changes
from t4g_tracker.config import read_settings
from t4g_tracker.coordinates import working_size
from t4g_tracker.datasets.davis import DavisFolder
from t4g_tracker.datasets.protocols import PointProtocol, worst_tracks
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import QueryError
from t4g_tracker.files import prepare_output_folder
from t4g_tracker.masks import read_foreground
from t4g_tracker.pipeline import (
    Config,
    fit_adapter,
    frozen_features,
    open_clip,
    optical_flow,
    track_snapshots,
    write_everything,
)
from t4g_tracker.queries import grid_queries, read_mask, read_queries
from t4g_tracker.results import Result
from t4g_tracker.video import read_video

DEFAULT_GRID = 8


@dataclass(frozen=True)
class DavisJob(Job):
    """Tracks one sequence of a DAVIS folder and writes its results."""

    folder: DavisFolder
    mode: QueryMode
    grid: int | None
    queries: Path | None
    annotated: bool  # points and truth are TAP-Vid's
    foreground: bool

    def __call__(self, name: str, device: str) -> ClipOutcome:
        if not self.annotated:
            video = read_video(self.folder.frames(name))
            rows, seconds, peak = self._track(name, video, self._points(name, video), None, device)
            tracked = Result(rows[-1].name, seconds=seconds, peak_memory_mb=peak)
            return ClipOutcome(name, (tracked,), (), video.frame_count, self._overlay(name))
        clip, protocol = self.folder.annotated(name), PointProtocol(self.mode)
        queries, track_index = protocol.queries(clip)
        truth = clip.truth.subset(track_index)
        rows, seconds, peak = self._track(name, clip.video, queries, truth, device)
        worst = worst_tracks(protocol, clip, queries, track_index, rows[-1].own_tracks)
        scored = tuple(
            Result(row.name, measures=row.measures, seconds=seconds, peak_memory_mb=peak) for row in rows
        )
        return ClipOutcome(name, scored, worst, clip.video.frame_count, self._overlay(name))

    def _track(
        self, name: str, video: Video, queries: QueryPoints, truth: Tracks | None, device: str
    ) -> tuple[list[Result], float, float]:
        """The stages in order, as run_tracker.py has them; rows, seconds and peak MB of them all."""
        config, folder = self.config(), prepare_output_folder(self.out / name)
        inside = None
        if self.foreground:
            size = working_size(video.size, config.working_size)
            inside = read_foreground(self.folder.masks(name), video, size)
        bar = partial(clip_bar, name)
        clip = open_clip(video, config, self.cache, torch.device(device), self.seed, inside, bar)
        features = frozen_features(clip, config)
        flow = optical_flow(clip, config)
        fitted = fit_adapter(clip, config, features, flow)
        rows = track_snapshots(clip, queries, config, features, flow, fitted)
        asked = {"davis": str(self.folder.root), "sequence": name, "mode": self.mode}
        rows = write_everything(clip, queries, config, fitted, rows, truth, folder, asked, self.mode)
        return rows, *clip.log.spent(*clip.log.stages)

    def _points(self, name: str, video: Video) -> QueryPoints:
        if self.queries is not None:
            return read_queries(query_file(self.queries, name), video)
        mask = read_mask(self.folder.first_mask(name), video)
        return grid_queries(video, self.grid or DEFAULT_GRID, 0, mask)

    def _overlay(self, name: str) -> str:
        return f"{name}/overlay.mp4" if self.config().outputs.overlay else ""


def davis(argv: list[str] | None = None) -> int:
    """``run_tracker.py --davis``: returns the exit code, 1 where a sequence failed."""
    return guarded(_davis_command, argv)


def _davis_command(argv: list[str] | None) -> int:
    request = parse_davis(argv)
    config = read_settings(Config(), request.config, request.assignments)
    config = replace(config, outputs=replace(config.outputs, overlay=request.overlays))
    check_run(request, {"tracked": config})
    folder = DavisFolder(request.davis, request.tapvid)
    names = folder.sequences(request.split, request.sequences)
    annotated = request.grid is None and request.queries is None and folder.has_annotations()
    _check_points(request, folder, names, annotated)
    asked = PointProtocol(request.mode).describe() if annotated else "points asked for"
    identity = {
        "what": "davis",
        "data": str(request.davis),
        "points": asked,
        "grid": request.grid,
        "queries": str(request.queries),
        "tapvid": str(request.tapvid),
        "foreground": request.foreground,
    }
    job = DavisJob(
        configs={"tracked": config},
        cache=Cache.open(request.cache, request.fresh),
        seed=request.seed,
        out=request.out,
        overlays=request.overlays,
        folder=folder,
        mode=request.mode,
        grid=request.grid,
        queries=request.queries,
        annotated=annotated,
        foreground=request.foreground,
    )
    setup = Setup(
        title=with_changes(f"DAVIS, {asked}, 480p, all frames", request.assignments),
        dataset="tapvid-davis" if annotated else "davis",
        mode=request.mode,
        resolution="480p",
        first_frames=0,
        clips=len(names),
        all_clips=len(names),
    )
    measures = PointProtocol.measures if annotated else ()
    return run_job(request, job, names, measures, identity, setup)


def query_file(folder: Path, name: str) -> Path:
    """The query file of a sequence.

    Raises:
        QueryError: If there is none.
    """
    for suffix in (".json", ".csv", ".npy", ".npz"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise QueryError(f"{folder}: has no {name}.json, .csv, .npy or .npz; leave {name} out with --sequences")


def _check_points(request: DavisRequest, folder: DavisFolder, names: list[str], annotated: bool) -> None:
    """Make sure that every sequence has its points, and its masks where they are wanted, before any work."""
    if request.foreground:
        folder.check_masks(names)
    if annotated:
        folder.check_annotations(names)
        return
    for name in names:
        if request.queries is not None:
            query_file(request.queries, name)
        else:
            folder.first_mask(name)
