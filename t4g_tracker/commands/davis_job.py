"""Tracking one sequence of a DAVIS folder: the job that ``--davis`` sends to its workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.choices import QueryMode
from t4g_tracker.commands.many_clips import Job
from t4g_tracker.commands.points import Inputs
from t4g_tracker.commands.track import track_states, write_everything
from t4g_tracker.coordinates import working_size
from t4g_tracker.datasets.davis_folder import DavisFolder
from t4g_tracker.datasets.protocols import PointProtocol, worst_tracks
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import QueryError, noted_warnings
from t4g_tracker.fitted import fit_clip
from t4g_tracker.inputs.mask_objects import Name
from t4g_tracker.inputs.masks import read_foreground, read_mask
from t4g_tracker.inputs.queries import grid_queries, read_queries
from t4g_tracker.inputs.query_formats import FORMATS
from t4g_tracker.inputs.video import read_video
from t4g_tracker.outputs.run_record import Call, Destination, points_facts, video_facts
from t4g_tracker.pipeline import open_clip
from t4g_tracker.results import Result
from t4g_tracker.storage.files import prepare_output_folder

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
    mask_object: Name | None
    command: tuple[str, ...]  # as typed, for the records

    def __call__(self, name: str, device: str) -> ClipOutcome:
        with noted_warnings():
            return self._outcome(name, device)

    def _outcome(self, name: str, device: str) -> ClipOutcome:
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
        """Fit, track and write as run_tracker.py does; returns rows, seconds and peak MB in all."""
        arguments = {"davis": str(self.folder.root), "sequence": name, "mode": self.mode}
        call = Call(self.command, arguments)
        config, folder = self.config(), prepare_output_folder(self.out / name)
        foreground = None
        if self.foreground:
            size = working_size(video.size, config.working_size)
            foreground = read_foreground(self.folder.masks(name), video, size, mask_object=self.mask_object)
        run = self.run(name, torch.device(device))
        fitted = fit_clip(open_clip(video, config, foreground), config, run)
        rows = track_states(fitted, queries)
        facts = {
            "video": video_facts(video, fitted.clip.content, self.folder.frames(name)),
            "points": points_facts(queries, self._source(name)),
        }
        inputs, destination = Inputs(video, queries, truth), Destination(folder, facts, call)
        rows, _ = write_everything(fitted, inputs, rows, destination, self.mode)
        return rows, *run.log.spent(*run.log.stages)

    def _points(self, name: str, video: Video) -> QueryPoints:
        if self.queries is not None:
            return read_queries(query_file(self.queries, name), video)
        mask = read_mask(self.folder.first_mask(name), video, mask_object=self.mask_object)
        return grid_queries(video, self.grid or DEFAULT_GRID, 0, mask)

    def _source(self, name: str) -> str:
        """Say where the points of a sequence come from."""
        if self.queries is not None:
            return str(query_file(self.queries, name).absolute())
        if self.annotated:
            return f"{self.mode} queries in {(self.folder.tapvid or self.folder.root / 'tracks').absolute()}"
        return f"grid of {self.grid or DEFAULT_GRID} in {self.folder.first_mask(name).absolute()}"

    def _overlay(self, name: str) -> str:
        return f"{name}/overlay.mp4" if self.config().outputs.overlay else ""


def query_file(folder: Path, name: str) -> Path:
    """Find the query file of a sequence; raise QueryError if there is none."""
    for suffix in FORMATS:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    names = ", ".join(f"{name}{suffix}" for suffix in FORMATS)
    raise QueryError(f"{folder}: has no {names}; leave {name} out with --sequences")
