"""What a camera and a codec lose leaves everything in place."""

from __future__ import annotations

import torch
from tiny_scenes import SIZE

from t4g_tracker.synthetic.camera_losses import lose_quality


def test_losing_quality_moves_nothing():
    coarse = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    # JPEG's blocks fit into this size, mirrored or not
    picture = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")
    for seed in range(8):
        there, mirrored = (
            lose_quality(torch.Generator().manual_seed(seed), frames).float()
            for frames in (picture, picture.flip(-1))
        )
        straight, shifted = ((there.roll(by, -1) - mirrored.flip(-1)).abs().mean() for by in (0, 1))
        assert straight < 0.6 * shifted
