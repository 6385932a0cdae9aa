"""Random paths keep to their pace and limit."""

from __future__ import annotations

import pytest
import torch

from t4g_tracker.synthetic.random_motion import smooth_path


def test_a_smooth_path_keeps_its_pace_and_its_limit():
    generator = torch.Generator().manual_seed(0)
    for fastest in (0.05, 1.0, 30.0):
        path = smooth_path(generator, 24, 2, fastest, 20.0)
        step = (path[1:] - path[:-1]).norm(dim=-1).max()
        assert path.abs().max() <= 20.01
        assert step == pytest.approx(fastest, rel=1e-3) or path.abs().max() == pytest.approx(20, rel=1e-3)
