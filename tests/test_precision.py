"""Networks run in bfloat16 only where that is faster."""

import os
import subprocess
import sys
import warnings

import pytest
import torch

from t4g_tracker import hardware
from t4g_tracker.errors import TrackerWarning
from t4g_tracker.features.networks import dtype_for
from t4g_tracker.hardware import check_precision, pick_precision

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


@pytest.fixture
def instructed(monkeypatch):
    """A processor with instructions for bfloat16, all of which PyTorch and oneDNN may use."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "value", "chosen"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", torch.bfloat16),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", torch.float32),
        ("DNNL_MAX_CPU_ISA", "avx512_core_vnni", torch.float32),
    ],
)
def test_bfloat16_is_not_chosen_where_onednn_would_emulate_it(instructed, monkeypatch, name, value, chosen):
    monkeypatch.setenv(name, value)
    assert pick_precision("auto", CPU) == chosen


def test_bfloat16_is_not_chosen_where_pytorch_may_not_use_its_instructions(instructed, monkeypatch):
    assert pick_precision("auto", CPU) == torch.bfloat16
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert pick_precision("auto", CPU) == torch.float32


def test_bfloat16_is_not_chosen_where_onednn_is_told_not_to_use_it():
    """In a process of its own: oneDNN reads its variable once."""
    program = """
import torch
from t4g_tracker.hardware import pick_precision
torch.cpu.get_capabilities = lambda: {"avx512_bf16": True}
torch.backends.cpu.get_cpu_capability = lambda: "AVX512"
print(pick_precision("auto", torch.device("cpu")))
"""
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "torch.float32\n"


def test_bfloat16_that_is_asked_for_is_given_with_a_warning_where_it_is_slow(monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: False)
    with pytest.warns(TrackerWarning, match="adaptation.precision is bfloat16, which takes this processor"):
        check_precision("adaptation.precision", "bfloat16", CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_precision("adaptation.precision", "auto", CPU)
        check_precision("adaptation.precision", "bfloat16", GPU)
