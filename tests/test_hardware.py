"""The device to compute on: what is not there is refused with the reason and the remedy."""

import pytest
import torch

from t4g_tracker import fit
from t4g_tracker.errors import ConfigError
from t4g_tracker.hardware import pick_device

NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"
OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver"
)


@pytest.fixture
def machine(monkeypatch):
    """Makes PyTorch report a machine with so many GPUs; without any, why CUDA does not start."""

    def make(gpus=0, built=True, reason="", mps=False):
        def init():
            if reason:
                raise RuntimeError(reason)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return make


def refused(name) -> str:
    with pytest.raises(ConfigError) as caught:
        pick_device(name)
    message = str(caught.value)
    assert message.isprintable()
    assert "--" not in message  # programs have no options
    return message


@pytest.mark.parametrize(
    ("gpus", "mps", "chosen"), [(2, False, "cuda"), (0, True, "mps"), (0, False, "cpu"), (1, True, "cuda")]
)
def test_auto_takes_the_fastest_there_is(machine, gpus, mps, chosen):
    machine(gpus=gpus, mps=mps)
    assert pick_device("auto") == torch.device(chosen)


def test_what_is_there_is_taken_as_named(machine):
    machine(gpus=2, mps=True)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "mps"):
        assert pick_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("here", "said"),
    [
        ({"built": False}, "is built without CUDA; install one with it, see pytorch.org, or choose cpu"),
        ({"reason": NO_DRIVER}, "device cuda: no NVIDIA driver is found; install one"),
        ({"reason": OLD_DRIVER}, "device cuda: the NVIDIA driver is too old for CUDA"),
        ({"reason": "No CUDA GPUs are available"}, "device cuda: PyTorch sees no GPU; check it"),
        ({"reason": "CUDA unknown error\nline 2"}, "does not start (CUDA unknown error line 2);"),
    ],
)  # fmt: skip
def test_without_cuda_the_reason_is_told(machine, here, said):
    machine(**here)
    assert said in refused("cuda")


def test_hidden_gpus_are_told_by_the_variable_that_hides_them(machine, monkeypatch):
    machine(reason="No CUDA GPUs are available")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "PyTorch sees no GPU, and CUDA_VISIBLE_DEVICES is ''; check" in refused("cuda:0")


@pytest.mark.parametrize(
    ("gpus", "said"),
    [(1, "PyTorch sees 1 GPU here; choose cuda:0"), (2, "sees 2 GPUs here; choose cuda:0 to cuda:1")],
)
def test_a_number_beyond_the_gpus_is_refused_with_those_there_are(machine, gpus, said):
    machine(gpus=gpus)
    assert said in refused("cuda:7")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0", "did you mean cuda:0?"),
        ("1", "did you mean cuda:1?"),
        ("gpu", "did you mean cuda:0?"),
        ("GPU", "did you mean cuda:0?"),
        ("gpu:1", "did you mean cuda:1?"),
        ("cuda1", "did you mean cuda:1?"),
        ("CUDA", "did you mean cuda:0?"),
        ("cpuu", "did you mean cpu?"),
        ("CPU", "did you mean cpu?"),
        ("cuda:-1", "did you mean cuda?"),
        ("cpu:3", "did you mean cpu?"),
        ("meta", "write auto, cpu, cuda, cuda:1 or mps"),
        ("", "did you mean cuda:0?"),
        ("x\n" * 500, "write auto, cpu, cuda, cuda:1 or mps"),
    ],
)
def test_what_is_no_device_is_refused_with_the_nearest(machine, name, said):
    machine(gpus=2)
    assert said in refused(name)


def test_on_a_mac_the_gpu_is_mps(machine):
    machine(mps=True)
    assert "did you mean mps?" in refused("gpu")


def test_a_program_is_told_as_well(machine, slide):
    machine(reason=NO_DRIVER)
    with pytest.raises(ConfigError, match="device cuda: no NVIDIA driver is found"):
        fit(slide(3).video, device=torch.device("cuda"), cache=None)
