"""Settings of generation, apart from its code so that reading them loads no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from t4g_tracker.errors import ConfigError
from t4g_tracker.limits import Limits, check_limits

SIZE_STEP_PX = 64  # the autoencoder halves a frame three times, and the UNet three times more
MOST_SEEDS = 1000

Decoder = Literal["auto", "own", "linear"]


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How a video is generated; the defaults are those of Stable Video Diffusion's own pipeline.

    Only the size is Track4Gen's, which was trained at 320x576.
    """

    height: int = 320  # of the frames, a multiple of 64
    width: int = 576
    frames: int = 0  # of each video, 2 or more; 0: as many as the model was trained on
    steps: int = 25  # of denoising
    min_guidance: float = 1.0  # classifier-free guidance of the first frame; 1 is none
    max_guidance: float = 3.0  # that of the last frame; between them it grows evenly
    fps: int = 7  # rate of the video, which the model is told too: as fps - 1
    motion_bucket_id: int = 127  # amount of motion that the model is told
    noise_aug_strength: float = 0.02  # noise on the picture, whose values are in -1..1
    decode_chunk: int = 0  # frames decoded at once; 0: all

    LIMITS: ClassVar[Limits] = {
        "height": (SIZE_STEP_PX, 4096),
        "width": (SIZE_STEP_PX, 4096),
        "frames": (0, 1000),
        "steps": (1, 1000),
        "min_guidance": (0, 100),
        "max_guidance": (0, 100),
        "fps": (1, 1000),
        "motion_bucket_id": (0, 1000),
        "noise_aug_strength": (0, 10),
        "decode_chunk": (0, 1000),
    }

    def __post_init__(self) -> None:
        check_limits(self)
        if self.height % SIZE_STEP_PX or self.width % SIZE_STEP_PX:
            raise ConfigError(
                f"the size must be two multiples of {SIZE_STEP_PX}, got {self.height} {self.width}"
            )
        if self.frames == 1:
            raise ConfigError("frames must be at least 2, or 0 for as many as the model was trained on")
        if self.min_guidance > self.max_guidance:
            raise ConfigError(
                f"the first guidance must be at most the second, got {self.min_guidance:g} "
                f"{self.max_guidance:g}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.height, self.width


@dataclass(frozen=True)
class ModelChoice:
    """A model that a user chose, and its name in the results."""

    name: str
    model: str  # a folder, a hub name, or the name of a bundled model
