"""Where and how a command runs, from its request: device, cache, output folder, and what it records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from t4g_tracker.commands.arguments import PointsRequest
from t4g_tracker.commands.printing import say
from t4g_tracker.datatypes import QueryPoints
from t4g_tracker.hardware import pick_device
from t4g_tracker.inputs.mask_objects import written_name
from t4g_tracker.outputs.result_folder import Kind, open_result_folder
from t4g_tracker.outputs.run_files import RUN
from t4g_tracker.outputs.run_record import Call, Destination, points_facts, video_facts
from t4g_tracker.pipeline import Clip
from t4g_tracker.results import describe
from t4g_tracker.stage_cache import Run, Stop, never
from t4g_tracker.stage_log import StageLog, progress_bar
from t4g_tracker.storage.cache import Cache
from t4g_tracker.storage.files import safe_name

if TYPE_CHECKING:
    from t4g_tracker.commands.compare_features import CompareRequest
    from t4g_tracker.commands.track import TrackRequest


@contextmanager
def open_run(
    request: TrackRequest | CompareRequest,
    clip: Clip,
    queries: QueryPoints,
    call: Call,
    kind: Kind = RUN,
    stop: Stop = never,
) -> Iterator[tuple[Run, Destination]]:
    """Hold the folder of a request's results and open the cache; say what is about to be tracked.

    Yields:
        Device, seed, cache and progress bars of the request; and where its results go.

    Raises:
        ConfigError: If the machine lacks the device.
        OutputError: If a folder cannot be written, another run holds it, or results would replace an input.
    """
    facts = {
        "video": video_facts(clip.video, clip.content, request.video),
        "points": points_facts(queries, _points_in_words(request)),
    }
    given = {name: value for name, value in vars(request).items() if isinstance(value, Path)}
    read = [path for name, path in given.items() if name not in ("out", "cache")]
    default = Path("outputs") / f"{clip.video.name}{kind.suffix}" / points_name(request)
    with open_result_folder(request.out, default, facts, kind, read) as folder:
        device = pick_device(request.device)
        run = Run(
            device=device,
            seed=request.seed,
            cache=Cache.open(request.cache, request.fresh),
            bar=partial(progress_bar, quiet=request.quiet),
            stop=stop,
            log=StageLog(peaks=True, device=device),
        )
        say(describe(clip.video, queries, clip.size, device))
        yield run, Destination(folder, facts, call)


def points_name(request: PointsRequest) -> str:
    """Name the points of a request, for the folder of their results."""
    if request.queries is not None:
        name = request.queries.stem
    else:
        name = f"grid-{request.grid}"
        name += "" if request.grid_frame is None else f"@{request.grid_frame}"
        if request.mask is not None:
            name += f"-{request.mask.stem}"
            name += "" if request.mask_object is None else f"-{written_name(request.mask_object)}"
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
        mask += "" if request.mask_object is None else f", object {written_name(request.mask_object)}"
    return f"grid of {request.grid} in {frame}{mask}"
