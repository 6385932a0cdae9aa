"""Random crops of pairs keep flow and pixels together."""

from __future__ import annotations

import pytest
import torch
from tiny_flow import shifted_pair

from t4g_tracker.flow.dis import dis_flow
from t4g_tracker.training.flow.crops import PairsConfig, crop_pair

SMALL = PairsConfig(count=2, height=160, width=192, crop_height=128, crop_width=128, relit=0, erased=0)


@pytest.fixture
def shifted():
    return shifted_pair()


def test_a_crop_shows_the_motion_that_its_flow_states(shifted):
    for seed in range(8):
        crop = crop_pair(shifted, SMALL, torch.Generator().manual_seed(seed))
        middle = (slice(None), slice(None), slice(24, -24), slice(24, -24))
        for start in (0, 1):
            measured = dis_flow(crop.images[0, start], crop.images[0, 1 - start])
            error = (measured - crop.flow[0, start])[None][middle].norm(dim=1)
            assert float(error.median()) < 0.3


def test_points_that_leave_a_crop_count_as_not_seen(shifted):
    crop = crop_pair(shifted, SMALL, torch.Generator().manual_seed(0))
    assert 0.8 < float(crop.seen.float().mean()) < 1  # the pair itself says that all are seen
