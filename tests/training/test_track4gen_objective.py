"""The joint objective trains the parts that its settings name."""

from __future__ import annotations

import pytest
import torch
from tiny_datasets import dots
from tiny_models import NUM_FRAMES, WIDTHS, tiny_svd

from t4g_tracker.features.refiner import Refiner
from t4g_tracker.training.track4gen.dataset import collate_clips
from t4g_tracker.training.track4gen.objective import ObjectiveConfig, Track4GenObjective


@pytest.mark.parametrize(
    ("config", "trained"),
    [
        (ObjectiveConfig(), {"unet", "refiner"}),
        (ObjectiveConfig(refiner=False), {"unet"}),
        (ObjectiveConfig(correspondence=0), {"unet"}),
        (ObjectiveConfig(train_image_encoder=True), {"unet", "refiner", "image_encoder"}),
    ],
)
def test_each_variant_trains_its_parts_and_no_others(config, trained):
    pipeline = tiny_svd()
    objective = Track4GenObjective(pipeline, Refiner(WIDTHS[1]), config, NUM_FRAMES)
    losses = objective(collate_clips([dots(2 * NUM_FRAMES, (64, 64))]))
    losses["loss"].backward()
    moved = {name.split(".")[0] for name, weight in objective.named_parameters() if weight.grad is not None}
    assert moved == trained
    assert all(weight.grad is None for weight in pipeline.vae.parameters())
    expected = losses["denoising"]
    if config.correspondence:
        expected = expected + config.correspondence * losses["correspondence"]
    torch.testing.assert_close(losses["loss"], expected)


def test_a_dropped_image_conditions_the_unet_in_no_way():
    """With ``keep`` 0 neither latents nor embedding of the first frame matter, with 1 they do."""
    objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), ObjectiveConfig(), NUM_FRAMES).eval()
    frames = torch.stack([torch.zeros(NUM_FRAMES, 3, 64, 64), torch.ones(NUM_FRAMES, 3, 64, 64)])
    noisy = torch.randn(1, NUM_FRAMES, 4, 8, 8).expand(2, -1, -1, -1, -1)
    with torch.no_grad():
        for keep, alike in ((0.0, True), (1.0, False)):
            answer, _ = objective.run_unet(frames, noisy, torch.ones(2), torch.full((2,), keep))
            assert torch.allclose(answer[0], answer[1], atol=1e-5) == alike


def test_the_configured_share_of_clips_gets_the_extractors_noise():
    config = ObjectiveConfig(low_noise_share=0.3)
    objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), config, NUM_FRAMES)
    torch.manual_seed(0)
    sigma = objective._sample_sigma(4000)
    low = sigma == config.low_noise_sigma
    assert low.float().mean() == pytest.approx(0.3, abs=0.03)
    assert sigma[~low].log().mean() == pytest.approx(config.sigma_mean, abs=0.1)
    assert sigma[~low].log().std() == pytest.approx(config.sigma_spread, abs=0.1)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        config = ObjectiveConfig(gradient_checkpointing=checkpointing)
        torch.manual_seed(0)
        objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), config, NUM_FRAMES)
        torch.manual_seed(0)
        objective(collate_clips([dots(NUM_FRAMES, (64, 64))]))["loss"].backward()
        gradients.append({name: weight.grad for name, weight in objective.unet.named_parameters()})
        assert objective.unet.is_gradient_checkpointing == checkpointing
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
