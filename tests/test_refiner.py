"""The refiner: the published layers, kept and read back without loss."""

from __future__ import annotations

import torch
from torch import nn

from t4g_tracker.features.refiner import Refiner


def test_refiner_has_the_published_layers():
    layers = Refiner().layers
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 8
    for layer in convolutions:
        assert (layer.in_channels, layer.out_channels) == (640, 640)
        assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
    kinds = [type(layer) for layer in layers]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 7 + [nn.Conv2d, nn.ReLU]


def test_refined_features_keep_the_grid_are_never_negative_and_reach_eight_cells():
    refiner = Refiner(channels=16).eval()
    features = torch.randn(1, 16, 20, 24, requires_grad=True)
    refined = refiner(features)
    assert refined.shape == features.shape
    assert (refined >= 0).all()
    refined[0, :, 10, 12].sum().backward()
    reached = features.grad[0].abs().sum(0).nonzero()
    assert reached.amin(0).tolist() == [2, 4]
    assert reached.amax(0).tolist() == [18, 20]


def test_refining_one_frame_does_not_touch_another():
    refiner = Refiner(channels=8).eval()
    features = torch.randn(2, 8, 6, 6)
    other = features.clone()
    other[1] += 1
    with torch.no_grad():
        assert torch.equal(refiner(features)[0], refiner(other)[0])


def test_saved_refiner_comes_back_with_its_batch_statistics(tmp_path):
    refiner = Refiner(channels=8)
    refiner(torch.randn(4, 8, 6, 6))  # training mode: moves the running mean
    refiner.eval().save_pretrained(tmp_path / "refiner")
    assert (tmp_path / "refiner" / "config.json").is_file()
    assert (tmp_path / "refiner" / "diffusion_pytorch_model.safetensors").is_file()
    again = Refiner.from_pretrained(tmp_path, subfolder="refiner")
    features = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        assert torch.equal(again(features), refiner(features))
