"""Settings of the diffusion extractors, apart from their code so that reading them imports no diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from t4g_tracker.errors import ConfigError

Kind = Literal["track4gen", "svd"]

SVD_MODEL = "stabilityai/stable-video-diffusion-img2vid"


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Which video diffusion model is read, where, and what it is told about the video.

    ``noise_sigma`` is our choice, not tuned on published weights: it hides little of the frame,
    and lies between the fourth and the third step from the end of a 25-step generation with
    SVD's schedule, whose last step is 0.002.
    """

    model: str = (
        ""  # diffusers folder or hub name; empty is SVD's hub name for svd; leave it so for track4gen-mini
    )
    block: int = 2  # index of the UNet up-block whose output (upsampled) is taken
    noise_sigma: float = 0.05  # EDM noise on the frame latents, in their own standard deviations
    refiner: bool = True  # not for svd: refine the features; false takes them raw
    segment_frames: int = 0  # frames the UNet sees at once; 0: as many as it was trained on
    fps: int = 7  # frames a second SVD is told, minus one, as in its training
    motion_bucket_id: int = 127  # amount of motion SVD is told; 127 is its usual
    noise_aug_strength: float = 0.02  # noise on the conditioning frame, of -1..1
    half: bool = True  # float16 on a GPU, bfloat16 on a CPU that has it; false is float32

    def __post_init__(self) -> None:
        for name, least in (("block", 0), ("segment_frames", 0), ("fps", 1), ("motion_bucket_id", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"features.diffusion.{name} must be at least {least}, got {getattr(self, name)}"
                )
        if not 0 < self.noise_sigma <= 700:
            raise ConfigError(
                f"features.diffusion.noise_sigma must be above 0 and at most 700, got {self.noise_sigma}"
            )
        if self.noise_aug_strength < 0:
            raise ConfigError(
                f"features.diffusion.noise_aug_strength must not be negative, got {self.noise_aug_strength}"
            )
