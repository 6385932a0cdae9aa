"""Measuring a video: features, flow, trajectories and tracks. What learns from it is in ``adaptation``.

The names below are the ones for use from Python; README shows them in a few lines.
"""

from t4g_tracker.coordinates import WorkingSizeConfig, working_size
from t4g_tracker.datatypes import FeatureGrid, FlowSequence, QueryPoints, Tracks, Trajectories, Video
from t4g_tracker.errors import TrackerError
from t4g_tracker.features.extractor import extract_features
from t4g_tracker.features.settings import FeaturesConfig
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.settings import FlowConfig, flow_size
from t4g_tracker.metrics import Scores, sample_queries, score
from t4g_tracker.queries import grid_queries, read_queries
from t4g_tracker.track_files import read_tracks_npz, write_tracks_csv, write_tracks_npz
from t4g_tracker.tracking.track import TrackingConfig, track
from t4g_tracker.tracking.visibility import VisibilityConfig
from t4g_tracker.trajectories import TrajectoriesConfig, chain_flow
from t4g_tracker.video import read_video, working_frames

__all__ = [
    "FeatureGrid",
    "FeaturesConfig",
    "FlowConfig",
    "FlowEstimator",
    "FlowSequence",
    "QueryPoints",
    "Scores",
    "TrackerError",
    "TrackingConfig",
    "Tracks",
    "Trajectories",
    "TrajectoriesConfig",
    "Video",
    "VisibilityConfig",
    "WorkingSizeConfig",
    "chain_flow",
    "extract_features",
    "flow_size",
    "grid_queries",
    "read_queries",
    "read_tracks_npz",
    "read_video",
    "sample_queries",
    "score",
    "track",
    "working_frames",
    "working_size",
    "write_tracks_csv",
    "write_tracks_npz",
]
