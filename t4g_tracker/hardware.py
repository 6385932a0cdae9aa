"""The machine: the device to compute on, its number format, its processor cores."""

from __future__ import annotations

import os
import re

import torch

from t4g_tracker.choices import Precision
from t4g_tracker.errors import ConfigError, one_line, shortened, suggestion, warn

DEVICES = ("auto", "cpu", "cuda", "mps")
EMULATED = ("avx512_core", "avx512_core_vnni")  # oneDNN takes bfloat16 there, but has no instructions for it


def pick_device(name: str) -> torch.device:
    """Choose the device to compute on; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: If this machine does not have the device; the message says what it lacks.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if name in ("cpu", "cpu:0"):
        return torch.device("cpu")
    if name in ("mps", "mps:0"):
        if not mps:
            raise ConfigError(
                "device mps: PyTorch finds none; it needs a Mac with Apple silicon, or choose cpu"
            )
        return torch.device("mps")
    if not re.fullmatch(r"cuda(:(0|[1-9][0-9]{0,3}))?", name):
        raise ConfigError(f"device {shortened(name)}: is not a device; {_meant(name, mps and not cuda)}")
    if not cuda:
        raise ConfigError(f"device {name}: {_why_no_cuda()}, or choose cpu")
    device, count = torch.device(name), torch.cuda.device_count()
    if (device.index or 0) >= count:
        others = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise ConfigError(f"device {name}: PyTorch sees {count} GPU{'s' * (count > 1)} here; choose {others}")
    return device


def _meant(name: str, mps: bool) -> str:
    """What to write instead of a name that is no device."""
    gpu = re.fullmatch(r"(?:cuda|gpu|nvidia)?[: ]?([0-9]?)", name.strip().lower())
    if gpu:
        return f"did you mean {'mps' if mps else f'cuda:{gpu[1] or 0}'}?"
    return suggestion(name.lower(), DEVICES, "write auto, cpu, cuda, cuda:1 or mps")


def _why_no_cuda() -> str:
    """Say why PyTorch has no CUDA here, and the remedy."""
    if not torch.backends.cuda.is_built():
        return (
            f"this PyTorch ({torch.__version__}) is built without CUDA; install one with it, see pytorch.org"
        )
    reason = ""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error)
    if "no NVIDIA driver" in reason:
        return "no NVIDIA driver is found; install one if there is an NVIDIA GPU"
    if "too old" in reason:
        return f"the NVIDIA driver is too old for CUDA {torch.version.cuda}; update it"
    if "No CUDA GPUs" in reason:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        here = "" if hidden is None else f", and CUDA_VISIBLE_DEVICES is {shortened(hidden)!r}"
        return f"PyTorch sees no GPU{here}; check it with nvidia-smi"
    return f"CUDA does not start ({reason}); check it with nvidia-smi"


def pick_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Choose the autocast type for a device: bfloat16 where it is faster than float32."""
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16" or device.type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if device.type == "cpu" and _cpu_has_bf16() else torch.float32


def check_precision(setting: str, precision: Precision, device: torch.device) -> None:
    """Warn if ``precision``, the value of ``setting``, is one that this device is slow at."""
    if precision == "bfloat16" and device.type == "cpu" and not _cpu_has_bf16():
        warn(
            f"{setting} is bfloat16, which takes this processor many times as long as float32; "
            "set it to auto or float32"
        )


def _cpu_has_bf16() -> bool:
    """Whether the processor has instructions for bfloat16, and PyTorch and oneDNN may use them.

    ``ATEN_CPU_CAPABILITY`` and ``ONEDNN_MAX_CPU_ISA`` (once ``DNNL_MAX_CPU_ISA``) forbid it. PyTorch then
    computes a convolution in bfloat16 without oneDNN, which takes many times as long as in float32.
    """
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", ""))
    if allowed.lower() in EMULATED or torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
