"""Settings of ZeroScope, apart from its code so that reading them imports no diffusers."""

from __future__ import annotations

from dataclasses import dataclass

from t4g_tracker.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ZeroscopeConfig:
    """Where ZeroScope is read. Its weights are CC-BY-NC-4.0: not for commercial use.

    ``timestep`` is our choice, not tuned: little of the frame is hidden. ``segment_frames`` is
    what its model card says it was trained on.
    """

    model: str = "cerspense/zeroscope_v2_576w"  # diffusers folder or hub name; non-commercial licence
    block: int = 2  # index of the UNet up-block whose output (upsampled) is taken
    timestep: int = 50  # noise on the frame latents, as a step of its schedule; 0 is the least
    segment_frames: int = 24  # frames the UNet sees at once
    half: bool = True  # float16 on a GPU, bfloat16 on a CPU that has it; false is float32

    def __post_init__(self) -> None:
        for name, least in (("block", 0), ("timestep", 0), ("segment_frames", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"features.zeroscope.{name} must be at least {least}, got {getattr(self, name)}"
                )
        if not self.model:
            raise ConfigError("features.zeroscope.model must name a diffusers folder or a hub model")
