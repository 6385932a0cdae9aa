"""Random crops of clips keep points on their pixels."""

from __future__ import annotations

import pytest
import torch
from tiny_datasets import dots

from t4g_tracker.synthetic.clips import TrainingClip
from t4g_tracker.training.track4gen.crops import Crop, crop_clip


def brightness_at(clip: TrainingClip) -> torch.Tensor:
    """Brightness of the pixel nearest to every visible point."""
    frame = torch.arange(clip.xy.shape[1]).expand(clip.xy.shape[:2])[clip.visibility]
    x, y = clip.xy[clip.visibility].round().long().unbind(-1)
    return clip.frames[frame, :, y, x].float().amax(1)


@pytest.mark.parametrize("seed", range(6))
def test_a_crop_moves_points_with_their_pixels(seed):
    crop = Crop(segments=2, frames=3, size=(64, 96), turn=0.5, zoom=1.4)
    seen = crop_clip(dots(), crop, torch.Generator().manual_seed(seed))
    assert seen.frames.shape == (6, 3, 64, 96)
    assert seen.visibility.any()
    assert (brightness_at(seen) > 60).float().mean() > 0.95


def test_points_outside_a_crop_are_not_visible():
    seen = crop_clip(dots(), Crop(segments=1, frames=2, size=(32, 32)), torch.Generator().manual_seed(0))
    inside = ((seen.xy >= 0) & (seen.xy <= 31)).all(-1)
    assert torch.equal(seen.visibility, inside)
    assert not inside.all()
