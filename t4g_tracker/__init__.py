"""Track any point through a video: frozen features, adapted to that one video.

    from t4g_tracker import track_points

    tracks = track_points("x.mp4", [[0, 120, 80], [12, 40, 96]])  # frame, x, y
    tracks.xy, tracks.visibility, tracks.confidence  # numpy

To track more points of the same video, fit once: ``fitted = fit(video)``, then ``fitted.track(points)``.
Names are imported on first use, so importing this package loads no library.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t4g_tracker.api import PointTracks as PointTracks
    from t4g_tracker.api import track_points as track_points
    from t4g_tracker.arrays import as_queries as as_queries
    from t4g_tracker.arrays import as_video as as_video
    from t4g_tracker.config import read_settings as read_settings
    from t4g_tracker.datatypes import QueryPoints as QueryPoints
    from t4g_tracker.datatypes import Tracks as Tracks
    from t4g_tracker.datatypes import Video as Video
    from t4g_tracker.errors import TrackerError as TrackerError
    from t4g_tracker.fitted import Fitted as Fitted
    from t4g_tracker.fitted import fit as fit
    from t4g_tracker.inputs.queries import grid_queries as grid_queries
    from t4g_tracker.inputs.queries import read_queries as read_queries
    from t4g_tracker.inputs.video import read_video as read_video
    from t4g_tracker.metrics import Scores as Scores
    from t4g_tracker.metrics import sample_queries as sample_queries
    from t4g_tracker.metrics import score as score
    from t4g_tracker.outputs.track_files import read_tracks_npz as read_tracks_npz
    from t4g_tracker.outputs.track_files import write_tracks_csv as write_tracks_csv
    from t4g_tracker.outputs.track_files import write_tracks_npz as write_tracks_npz
    from t4g_tracker.pipeline import Config as Config

__version__ = "0.2.0"

for _name in (__name__, "adaptation"):  # a library is silent unless its caller configures logging
    logging.getLogger(_name).addHandler(logging.NullHandler())

_HOMES = {
    "api": ("PointTracks", "track_points"),
    "arrays": ("as_queries", "as_video"),
    "config": ("read_settings",),
    "datatypes": ("QueryPoints", "Tracks", "Video"),
    "errors": ("TrackerError",),
    "metrics": ("Scores", "sample_queries", "score"),
    "fitted": ("Fitted", "fit"),
    "pipeline": ("Config",),
    "inputs.queries": ("grid_queries", "read_queries"),
    "outputs.track_files": ("read_tracks_npz", "write_tracks_csv", "write_tracks_npz"),
    "inputs.video": ("read_video",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
