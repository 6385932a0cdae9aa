"""Opening a finished tracking run again: its video, tracks and truth, and what of it is still cached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from t4g_tracker.commands.points import read_foreground_of, request_truth
from t4g_tracker.commands.track import TrackRequest
from t4g_tracker.config import apply_settings
from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Tracks, Video
from t4g_tracker.diagnosis.candidates import match_peaks
from t4g_tracker.diagnosis.pictures import Tracked
from t4g_tracker.errors import ConfigError, TrackerError, VideoError, shortened, warn
from t4g_tracker.fitted import Fitted
from t4g_tracker.gallery.failures import Evidence, carried_along
from t4g_tracker.gallery.folders import ResultFolder
from t4g_tracker.hardware import pick_device
from t4g_tracker.inputs.video import content_hash, read_video
from t4g_tracker.outputs.track_files import read_tracks_file
from t4g_tracker.pipeline import Config, open_clip, plan
from t4g_tracker.stage_cache import Run
from t4g_tracker.storage.cache import Cache

PEAKS = 2  # the best match and the next place
_PATHS = ("video", "queries", "mask", "truth", "cache", "config", "foreground", "out")


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A run, opened."""

    tracked: Tracked
    evidence: Evidence
    notes: list[str]  # what is missing, and what could not be looked for without it

    @classmethod
    def of(cls, result: ResultFolder, cache: Path) -> OpenedRun:
        """Open a run. Nothing long is computed: features and flow are read from the cache, or missing.

        Raises:
            TrackerError: If its video or its tracks cannot be read, or the video is another now.
        """
        record, notes = result.record, []
        request = _request(record)
        video = _video(record, request)
        found = read_tracks_file(result.path / "tracks.npz")
        truth = _truth(request, video, found.queries)
        if truth is None:
            notes.append("the truth is not known, so we cannot tell whether these tracks are wrong")
        fitted, why = _cached(record, request, video, cache)
        features, peaks, similarity = _matches(fitted, found.queries, video)
        carried = _carried(fitted, found.tracks, found.queries, video)
        if features is None or carried is None:
            notes.append(f"{why}, so look-alikes were not looked for")
        return cls(
            Tracked(video, found.queries, found.tracks, truth, features, peaks),
            Evidence(found.tracks, found.queries, video.size, truth, carried, peaks, similarity),
            notes,
        )


def _request(record: Mapping[str, Any]) -> TrackRequest | None:
    """The request of a run of ``t4g track``; None of a batch, whose arguments are others."""
    arguments = record.get("arguments")
    names = {entry.name for entry in fields(TrackRequest)}
    if not isinstance(arguments, dict) or arguments.keys() != names:
        return None
    changed: dict[str, Any] = {name: Path(arguments[name]) for name in _PATHS if arguments[name] is not None}
    if arguments["frames"] is not None:
        changed["frames"] = tuple(arguments["frames"])
    return TrackRequest(**{**arguments, **changed})


def _video(record: Mapping[str, Any], request: TrackRequest | None) -> Video:
    """Read the video of a run, the same part of it, and refuse another."""
    facts = record.get("video")
    if not isinstance(facts, dict) or not isinstance(facts.get("source"), str):
        raise VideoError("run.json does not name its video; track again")
    if request is None:
        video = read_video(facts["source"])
    else:
        frames, start = request.frames, request.start_frame
        video = read_video(facts["source"], request.first_frames, frames=frames, start_frame=start)
    if content_hash(video) != facts.get("digest"):
        raise VideoError(f"{facts['source']}: is not the video that was tracked; track again")
    return video


def _truth(request: TrackRequest | None, video: Video, queries: QueryPoints) -> Tracks | None:
    """Read the true tracks that the run was measured with, if it was and they are where they were."""
    if request is None or request.truth is None:
        return None
    try:
        return request_truth(request, video, queries)
    except TrackerError as error:
        warn(f"{error} (the truth is taken as unknown)")
        return None


def _cached(
    record: Mapping[str, Any], request: TrackRequest | None, video: Video, folder: Path
) -> tuple[Fitted | None, str]:
    """Lay out the stages of a run with its settings, to read what is cached; None if that fails.

    Keys of the cache name the device, so that what a GPU computed is not found from another.

    Returns:
        The stages, and why something of them may be missing.
    """
    name = str(record.get("device"))
    try:
        device = pick_device(name)
    except ConfigError:  # its remedy is for another command
        return None, f"features and flow are of a device that is not here, {shortened(name)}"
    missing = "features or flow are no longer cached"
    try:
        config = apply_settings(Config(), record.get("settings") or {}, "run.json")
        foreground = None if request is None else read_foreground_of(request, video, config)
        run = Run(device, int(record["seed"]), Cache.open(folder, fresh=False))
        clip = open_clip(video, config, foreground)
        return Fitted(clip, config, run, plan(clip, config, run)), missing
    except (TrackerError, KeyError, ValueError):
        return None, missing


def _matches(
    fitted: Fitted | None, queries: QueryPoints, video: Video
) -> tuple[FeatureGrid | None, Tensor | None, Tensor | None]:
    """Features that the tracker matched, with the best matches in them: positions and similarities."""
    if fitted is None or not (fitted.stages.features.cached and fitted.stages.adaptation.cached):
        return None, None, None
    features, head = fitted.adapted, fitted.stages.adaptation.value.head()
    matching = fitted.config.matching
    return features, *match_peaks(features, queries, video.size, matching, PEAKS, head)


def _carried(fitted: Fitted | None, tracks: Tracks, queries: QueryPoints, video: Video) -> Tensor | None:
    if fitted is None or not fitted.stages.flow.cached:
        return None
    return carried_along(fitted.stages.flow.value, tracks, queries, video.size)
