"""Adapting to the sliding clips of the tests."""

from __future__ import annotations

import torch

from adaptation.loop import adapt
from adaptation.prepare import prepare_features
from adaptation.settings import AdaptationConfig
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.matching.settings import MatchingConfig


def fit_clip(clip, features: FeatureGrid, config: AdaptationConfig, seed: int = 0, **kwargs):
    """Call ``adapt`` on the CPU with what ``clip`` shows; ``kwargs`` are further arguments."""
    prepared = prepare_features(features, config.centre)
    device = torch.device("cpu")
    return adapt(
        prepared, clip.frames, clip.trajectories, config, MatchingConfig(), seed=seed, device=device, **kwargs
    )
