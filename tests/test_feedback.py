"""Refined features that are fed back reach what follows a block, and no features of the block itself."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tiny_datasets import dots
from tiny_models import NUM_FRAMES, WIDTHS, save_tiny_svd, save_tiny_track4gen

from t4g_tracker.errors import WeightsError
from t4g_tracker.features.diffusion import extract
from t4g_tracker.features.diffusion_folder import check_folder
from t4g_tracker.features.diffusion_weights import load_model, load_pipeline
from t4g_tracker.features.feedback import Feedback
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.features.settings import DiffusionConfig

CPU = torch.device("cpu")


def save_feedback(folder, weight: float, block: int = 2):
    """Add feedback to a tiny model, of the given weight."""
    feedback = Feedback(WIDTHS[3 - block], block)
    torch.nn.init.constant_(feedback.convolution.weight, weight)
    feedback.save_pretrained(folder / "feedback")
    return folder


def generated(pipeline) -> torch.Tensor:
    """Latents of a video generated in two steps."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        Image.new("RGB", (64, 64), (200, 90, 20)),
        height=64,
        width=64,
        num_frames=NUM_FRAMES,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).frames


def test_zero_weights_generate_the_very_same_video_and_others_another(tmp_path):
    folder = save_tiny_track4gen(tmp_path / "model")
    plain = generated(load_pipeline(folder, torch.float32))
    assert torch.equal(generated(load_model(save_feedback(folder, 0.0), torch.float32)), plain)
    assert not torch.allclose(generated(load_model(save_feedback(folder, 0.1), torch.float32)), plain)


@pytest.mark.parametrize("block", [2, 3])
def test_features_of_later_blocks_change_with_feedback_and_those_of_the_block_itself_do_not(tmp_path, block):
    folder = save_tiny_track4gen(tmp_path / "model")
    config = DiffusionConfig(model=str(folder), block=block, half=False)
    frames = dots(NUM_FRAMES, (64, 64)).frames
    plain = extract(frames, config, kind="svd", device=CPU, seed=0)
    save_feedback(folder, 0.1)
    fed = extract(frames, config, kind="svd", device=CPU, seed=0)
    assert torch.equal(plain.values, fed.values) == (block == 2)


def test_feedback_of_the_last_block_reaches_the_output(tmp_path):
    folder = save_tiny_svd(tmp_path / "model")
    Refiner(channels=WIDTHS[0]).save_pretrained(folder / "refiner")
    plain = generated(load_pipeline(folder, torch.float32))
    assert not torch.allclose(
        generated(load_model(save_feedback(folder, 0.1, block=3), torch.float32)), plain
    )


def test_feedback_that_does_not_fit_is_refused_before_any_weights_are_loaded(tmp_path):
    folder = save_feedback(save_tiny_svd(tmp_path / "model"), 0.0)
    with pytest.raises(WeightsError, match="refiner"):
        check_folder(folder, 2, need_refiner=False)
    Refiner(channels=WIDTHS[1]).save_pretrained(folder / "refiner")
    check_folder(folder, 2, need_refiner=False)
    Feedback(8).save_pretrained(folder / "feedback")
    with pytest.raises(WeightsError, match=r"feedback does not take the 64 channels of up-block 2"):
        check_folder(folder, 2, need_refiner=False)
    Feedback(64, block=9).save_pretrained(folder / "feedback")
    with pytest.raises(WeightsError, match="has up-blocks 0 to 3"):
        check_folder(folder, 2, need_refiner=False)


def test_a_refiner_that_starts_as_the_identity_keeps_what_is_not_negative():
    refiner = Refiner(16).eval()
    refiner.start_as_identity()
    features = torch.randn(2, 16, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(refiner(features), features.relu(), rtol=1e-4, atol=1e-5)
