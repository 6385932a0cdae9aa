"""Which number format networks compute in."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def pick_precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """Autocast type for a device: bfloat16 where it computes faster than float32."""
    if wanted == "float32":
        return torch.float32
    if wanted == "bfloat16" or device.type == "cuda":
        return torch.bfloat16
    fast = device.type == "cpu" and torch.backends.mkldnn.is_available() and _cpu_has_bf16()
    return torch.bfloat16 if fast else torch.float32


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
