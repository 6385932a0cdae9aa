"""The machine: the device to compute on, its number format, its processor cores."""

from __future__ import annotations

import os

import torch

from t4g_tracker.choices import Precision
from t4g_tracker.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Choose the device to compute on; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: If this machine does not have the device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name}: is not a device; write auto, cpu, cuda, cuda:1 or mps") from None
    available = {"cpu": True, "cuda": cuda and (device.index or 0) < torch.cuda.device_count(), "mps": mps}
    if not available.get(device.type, False):
        others = ", ".join(kind for kind, ok in (("cpu", True), ("cuda", cuda), ("mps", mps)) if ok)
        raise ConfigError(f"--device {name}: is not on this machine; it has {others}")
    return device


def pick_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Choose the autocast type for a device: bfloat16 where it is faster than float32."""
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16" or device.type == "cuda":
        return torch.bfloat16
    fast = device.type == "cpu" and torch.backends.mkldnn.is_available() and _cpu_has_bf16()
    return torch.bfloat16 if fast else torch.float32


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
