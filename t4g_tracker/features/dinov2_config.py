"""Settings of DINOv2, apart from its code so that reading them imports no transformers."""

from __future__ import annotations

from dataclasses import dataclass

from t4g_tracker.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Dinov2Config:
    """Which DINOv2 is read, where, and how finely."""

    model: str = "facebook/dinov2-base"  # transformers folder or hub name
    layer: int = 0  # transformer block whose patch tokens are taken, 1 is the first; 0: the last
    stride_px: int = 8  # working pixels a patch covers: the frame is enlarged until 14 of its pixels do
    half: bool = True  # float16 on a GPU, bfloat16 on a CPU that has it; false is float32

    def __post_init__(self) -> None:
        for name, least in (("layer", 0), ("stride_px", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"features.dinov2.{name} must be at least {least}, got {getattr(self, name)}"
                )
        if not self.model:
            raise ConfigError("features.dinov2.model must name a transformers folder or a hub model")
