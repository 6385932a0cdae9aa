"""Networks run in bfloat16 only where that is faster."""

import pytest
import torch

from t4g_tracker import hardware
from t4g_tracker.features.networks import dtype_for
from t4g_tracker.hardware import pick_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("has", "chosen"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_uses_bfloat16_where_it_has_the_instructions(monkeypatch, has, chosen):
    """Without them a convolution in bfloat16 takes many times as long."""
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: has)
    assert pick_precision("auto", CPU) == chosen
    assert dtype_for(True, CPU) == chosen


@pytest.mark.parametrize("has", [True, False])
def test_the_processor_says_nothing_about_a_gpu(monkeypatch, has):
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: has)
    assert pick_precision("auto", GPU) == torch.bfloat16
    assert dtype_for(True, GPU) == torch.float16


def test_what_is_asked_for_is_given(monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: False)
    assert pick_precision("bfloat16", CPU) == torch.bfloat16
    assert dtype_for(False, GPU) == torch.float32


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="PyTorch without oneDNN, or a CPU whose convolutions can do bfloat16",
)
def test_bfloat16_is_not_chosen_where_convolutions_cannot_do_it():
    assert pick_precision("auto", CPU) == torch.float32
