"""Where and how a command runs, from its request: device, cache, output folder, and what it records."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from t4g_tracker.commands.arguments import PointsRequest, RunRequest
from t4g_tracker.datatypes import QueryPoints
from t4g_tracker.hardware import pick_device
from t4g_tracker.outputs.result_folder import Facts, Kind, open_result_folder, safe_name
from t4g_tracker.outputs.run_record import points_facts, video_facts
from t4g_tracker.pipeline import Clip
from t4g_tracker.stage_cache import Run, Stop, never
from t4g_tracker.stage_log import StageLog, progress_bar
from t4g_tracker.storage.cache import Cache


def run_of(request: RunRequest, stop: Stop = never) -> Run:
    """Choose device, seed, cache and progress bars by the request.

    Raises:
        ConfigError: If the machine lacks the device.
        OutputError: If the cache's folder cannot be written.
    """
    device = pick_device(request.device)
    return Run(
        device=device,
        seed=request.seed,
        cache=Cache.open(request.cache, request.fresh),
        bar=partial(progress_bar, quiet=request.quiet),
        stop=stop,
        log=StageLog(peaks=True, device=device),
    )


def facts_of(request: PointsRequest, clip: Clip, queries: QueryPoints) -> Facts:
    """What the record says of the video and the points of a request."""
    return {
        "video": video_facts(clip.video, clip.content, request.video),
        "points": points_facts(queries, _points_in_words(request)),
    }


def folder_of(
    request: PointsRequest, out: Path | None, clip_folder: Path, facts: Facts, kind: Kind
) -> AbstractContextManager[Path]:
    """Choose, create and hold the folder of a request's results, in ``clip_folder`` unless ``out`` is given.

    Raises:
        OutputError: If it cannot be written, another run holds it, or results would replace an input.
    """
    inputs = {name: value for name, value in vars(request).items() if isinstance(value, Path)}
    read = [path for name, path in inputs.items() if name not in ("out", "cache")]
    return open_result_folder(out, clip_folder / points_name(request), facts, kind, read)


def points_name(request: PointsRequest) -> str:
    """Name the points of a request, for the folder of their results."""
    if request.queries is not None:
        name = request.queries.stem
    else:
        name = f"grid-{request.grid}"
        name += "" if request.grid_frame is None else f"@{request.grid_frame}"
        if request.mask is not None:
            name += f"-{request.mask.stem}"
            name += "" if request.mask_object is None else f"-{_object(request)}"
    if request.first_frames:
        name += f"-first-{request.first_frames}"
    if request.frames:
        name += f"-frames-{request.frames[0]}-{request.frames[1]}"
    return safe_name(name)


def _points_in_words(request: PointsRequest) -> str:
    """Say where the points of a request come from."""
    if request.queries is not None:
        return str(request.queries.absolute())
    frame = "the first frame" if request.grid_frame is None else f"frame {request.grid_frame}"
    mask = ""
    if request.mask is not None:
        mask = f" and {request.mask.absolute()}"
        mask += "" if request.mask_object is None else f", object {_object(request)}"
    return f"grid of {request.grid} in {frame}{mask}"


def _object(request: PointsRequest) -> str:
    """Write the object of a mask as typed: a number, or a colour as R,G,B."""
    named = request.mask_object
    return ",".join(map(str, named)) if isinstance(named, tuple) else str(named)
