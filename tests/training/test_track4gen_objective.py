"""The joint objective trains the parts that its settings name."""

from __future__ import annotations

import pytest
import torch
from tiny_datasets import dots
from tiny_models import NUM_FRAMES, WIDTHS, tiny_svd

from t4g_tracker.errors import ConfigError
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.synthetic.clips import TrainingClip
from t4g_tracker.training.track4gen.dataset import collate_clips
from t4g_tracker.training.track4gen.objective import ObjectiveConfig, Track4GenObjective


def blinking(clip: TrainingClip) -> TrainingClip:
    """The clip, with every third visible point hidden."""
    visibility = clip.visibility.clone()
    visibility.view(-1)[::3] = False
    return TrainingClip(clip.frames, clip.xy, visibility)


@pytest.mark.parametrize(
    ("config", "trained"),
    [
        (ObjectiveConfig(), {"unet", "refiner"}),
        (ObjectiveConfig(refiner=False), {"unet"}),
        (ObjectiveConfig(correspondence=0), {"unet"}),
        (ObjectiveConfig(train_image_encoder=True), {"unet", "refiner", "image_encoder"}),
        (ObjectiveConfig(loss="huber"), {"unet", "refiner"}),
        (ObjectiveConfig(feedback=True), {"unet", "refiner", "feedback"}),
        (ObjectiveConfig(hidden=0.5), {"unet", "refiner", "not_here"}),
    ],
)
def test_each_variant_trains_its_parts_and_no_others(config, trained):
    pipeline = tiny_svd()
    objective = Track4GenObjective(pipeline, Refiner(WIDTHS[1]), config, NUM_FRAMES)
    losses = objective(collate_clips([blinking(dots(2 * NUM_FRAMES, (64, 64)))]))
    losses["loss"].backward()
    moved = {name.split(".")[0] for name, weight in objective.named_parameters() if weight.grad is not None}
    assert moved == trained
    assert all(weight.grad is None for weight in pipeline.vae.parameters())
    expected = losses["denoising"]
    if config.correspondence:
        expected = expected + config.correspondence * losses["correspondence"]
    if config.hidden:
        assert losses["hidden"] > 0
        expected = expected + config.correspondence * config.hidden * losses["hidden"]
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


def after_steps(config: ObjectiveConfig, count: int = 1) -> tuple[dict, dict]:
    """The weights of a tiny UNet before and after steps on one batch."""
    torch.manual_seed(0)
    objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), config, NUM_FRAMES)
    before = {name: weight.clone() for name, weight in objective.unet.state_dict().items()}
    optimiser = torch.optim.AdamW([w for w in objective.parameters() if w.requires_grad], lr=1e-3)
    for _ in range(count):
        objective(collate_clips([dots(NUM_FRAMES, (64, 64))]))["loss"].backward()
        optimiser.step()
    return before, objective.unet.state_dict()


def test_only_temporal_layers_change_if_only_they_are_trained():
    before, after = after_steps(ObjectiveConfig(trained="temporal"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    temporal = {name for name in before if "temporal_transformer_blocks" in name}
    assert changed
    assert changed <= temporal
    assert len(changed) > 0.9 * len(temporal)  # attention to one embedding has weights without gradient
    before, after = after_steps(ObjectiveConfig())
    assert {name for name in before if not torch.equal(before[name], after[name])} > temporal


def test_a_unet_without_temporal_layers_cannot_train_them():
    pipeline = tiny_svd()
    pipeline.unet = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(ConfigError, match="temporal_transformer_blocks"):
        Track4GenObjective(pipeline, Refiner(WIDTHS[1]), ObjectiveConfig(trained="temporal"), NUM_FRAMES)


def test_denoising_teaches_the_feedback_and_not_the_refiner_behind_it():
    objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), ObjectiveConfig(feedback=True), NUM_FRAMES)
    torch.nn.init.normal_(objective.feedback.convolution.weight)  # zero would stop any gradient
    objective(collate_clips([dots(NUM_FRAMES, (64, 64))]))["denoising"].backward()
    assert objective.feedback.convolution.weight.grad.abs().max() > 0
    assert all(weight.grad is None for weight in objective.refiner.parameters())


def test_new_feedback_changes_no_loss_and_its_first_step_does():
    losses = []
    for config in (ObjectiveConfig(), ObjectiveConfig(feedback=True)):
        torch.manual_seed(0)
        objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), config, NUM_FRAMES)
        for _ in range(2):
            torch.manual_seed(1)
            losses.append(objective(collate_clips([dots(NUM_FRAMES, (64, 64))])))
            if config.feedback:
                losses[-1]["denoising"].backward()
                with torch.no_grad():
                    weight = objective.feedback.convolution.weight
                    weight -= 1e-2 * weight.grad / weight.grad.norm()
    plain, again, fed, stepped = (float(loss["denoising"].detach()) for loss in losses)
    assert plain == again == fed
    assert stepped < fed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feedback": True, "refiner": False}, "objective.feedback is of refined"),
        ({"feedback": True, "correspondence": 0}, "objective.feedback is of refined"),
        ({"hidden": 0.1, "loss": "huber"}, "objective.hidden adds a class"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig(**options)
