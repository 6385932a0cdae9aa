"""A last convolution fitted anew denoises better, and nothing else of the model changes."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tiny_datasets import dots
from tiny_models import NUM_FRAMES, WIDTHS, save_tiny_svd, save_tiny_track4gen, tiny_svd

from t4g_tracker.commands.fit_readout import main as fit_readout
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.training.track4gen.objective import ObjectiveConfig, Track4GenObjective
from t4g_tracker.training.track4gen.readout import fit_last_convolution
from t4g_tracker.training.track4gen.validation import denoising_error

WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_the_last_convolution_fitted_anew_denoises_better_and_changes_no_feature():
    pipeline = tiny_svd()
    objective = Track4GenObjective(pipeline, Refiner(WIDTHS[1]), ObjectiveConfig(), NUM_FRAMES).eval()
    clips = [dots(NUM_FRAMES, (64, 64), points).frames for points in (6, 8, 10, 12)]

    def features():
        return objective.features(clips[3], torch.Generator().manual_seed(0)).values

    def errors():
        torch.manual_seed(0)
        return [denoising_error(objective, clips[3], sigma, 0) for sigma in (1.0, 3.0, 10.0)]

    torch.manual_seed(0)
    before, described = errors(), features()
    torch.manual_seed(0)
    fit_last_convolution(objective, clips[:3] * 4)
    torch.manual_seed(0)
    assert all(after < 0.9 * once for once, after in zip(before, errors(), strict=True))
    torch.manual_seed(0)
    errors()
    assert torch.equal(features(), described)


def test_a_model_without_clips_is_not_fitted():
    objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), ObjectiveConfig(), NUM_FRAMES)
    with pytest.raises(ConfigError, match="at least 1"):
        fit_last_convolution(objective, [])


@pytest.mark.parametrize("refined", [True, False])
def test_a_new_last_convolution_leaves_the_other_parts_as_they_were(tmp_path, refined):
    (save_tiny_track4gen if refined else save_tiny_svd)(tmp_path / "svd")
    assert fit_readout([str(tmp_path / "svd"), "--out", str(tmp_path / "out"), "--clips", "1"]) == 0
    assert (tmp_path / "out" / "refiner").exists() == refined
    before, after = (load_file(tmp_path / name / "unet" / WEIGHTS) for name in ("svd", "out"))
    changed = {name for name in before if not torch.equal(before[name].half(), after[name])}
    assert changed == {"conv_out.weight", "conv_out.bias"}
