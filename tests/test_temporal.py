"""Convolutions over time alone, computed in two dimensions."""

import copy

import pytest
import torch
from torch import nn

from t4g_tracker.training.loop.settings import TrainerConfig
from t4g_tracker.training.loop.temporal import TimeConvolution, flatten_time_convolutions
from t4g_tracker.training.loop.trainer import TrainingRun, train


def _convolution(channels=8, kernel=(3, 1, 1), padding=(1, 0, 0), **options):
    torch.manual_seed(0)
    return nn.Conv3d(channels, channels, kernel, padding=padding, **options)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_flat_convolution_answers_and_learns_as_the_three_dimensional_one(kernel):
    deep = _convolution(kernel=(kernel, 1, 1), padding=(kernel // 2, 0, 0))
    flat = copy.deepcopy(deep)
    flatten_time_convolutions(flat)
    videos = torch.randn(2, 8, 5, 6, 7)
    answers = [convolution(videos) for convolution in (deep, flat)]
    for answer in answers:
        answer.square().mean().backward()
    assert type(flat) is TimeConvolution
    torch.testing.assert_close(answers[1], answers[0])
    torch.testing.assert_close(flat.weight.grad, deep.weight.grad)
    torch.testing.assert_close(flat.bias.grad, deep.bias.grad)


@pytest.mark.parametrize("frames", [2, 3, 4])
def test_bfloat16_gradient_of_the_mini_models_widest_time_convolution_is_that_of_float32(frames):
    convolution = _convolution(channels=128)
    flatten_time_convolutions(convolution)
    videos = torch.randn(4, 128, frames, 24, 40)
    gradients = []
    for lower in (False, True):
        convolution.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            answer = convolution(videos)
        answer.float().square().mean().backward()
        gradients.append(convolution.weight.grad.clone())
    assert (gradients[1] - gradients[0]).norm() < 0.01 * gradients[0].norm()


@pytest.mark.parametrize(
    "other",
    [
        _convolution(kernel=(3, 3, 3), padding=1),
        _convolution(padding=(1, 0, 1)),
        _convolution(groups=2),
        _convolution(stride=(2, 1, 1)),
        _convolution(dilation=(2, 1, 1)),
        _convolution(padding_mode="replicate"),
    ],
)
def test_other_convolutions_are_left_alone(other):
    flatten_time_convolutions(other)
    assert type(other) is nn.Conv3d


def test_flattening_keeps_the_weights_names_and_reaches_inner_modules():
    model = nn.Sequential(_convolution(), nn.Sequential(_convolution(), nn.Conv2d(8, 8, 3)))
    names = list(model.state_dict())
    flatten_time_convolutions(model)
    assert list(model.state_dict()) == names
    assert [type(module) for module in model.modules() if isinstance(module, nn.Conv3d)] == [
        TimeConvolution
    ] * 2


class _InTime(nn.Module):
    """Videos of noise, to be answered with nothing, by the convolution that bfloat16 is hardest on."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = _convolution(channels=128)

    def forward(self, batch):
        return {"loss": self.convolution(batch).float().square().mean()}


def test_training_in_bfloat16_on_a_cpu_moves_time_convolutions(tmp_path):
    videos = [torch.randn(128, 4, 24, 40) for _ in range(4)]
    config = TrainerConfig(
        steps=2,
        batch=4,
        learning_rate=0.01,
        averaging=0.0,
        precision="bfloat16",
        workers=0,
        validate_every=10,
    )
    run = TrainingRun(tmp_path, torch.device("cpu"))
    dataset = _Numbered(videos)
    trained, finished = train(_InTime(), dataset, torch.stack, config, run, lambda model: {}, {})
    assert finished
    assert (trained.convolution.weight - _convolution(channels=128).weight).abs().max() > 0.001


class _Numbered(list):
    """Items that are asked for by (index, number drawn before)."""

    def __getitem__(self, item):
        return super().__getitem__(item[0])
