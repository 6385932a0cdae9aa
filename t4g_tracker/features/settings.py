"""Settings of the feature extractors, apart from their code so that reading them loads no library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from t4g_tracker.choices import Extractor, Facet, SingleExtractor
from t4g_tracker.errors import ConfigError
from t4g_tracker.limits import Limits, check_limits

Kind = Literal["track4gen", "svd"]  # of a Stable Video Diffusion folder

SVD_MODEL = "stabilityai/stable-video-diffusion-img2vid"
CLIP_MODEL, CLIP_LARGE_MODEL = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"

# The group of settings that each extractor reads.
GROUPS: dict[Extractor, str] = {
    "patch": "patch",
    "track4gen-mini": "diffusion",
    "track4gen": "diffusion",
    "svd": "diffusion",
    "zeroscope": "zeroscope",
    "dinov2": "dinov2",
    "dino": "dino",
    "fused": "fused",
}

# Both sides of the working size must be multiples of this: latents at 1/8, halved by the UNet.
SIZE_MULTIPLE: dict[str, int] = {"track4gen-mini": 32, "track4gen": 64, "svd": 64, "zeroscope": 64}


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """Random projections of the pixels around each cell."""

    channels: int = 64  # random projections per cell
    window_px: int = 16  # side of the square of pixels that a cell sees, even
    stride_px: int = 8  # working pixels between cells

    LIMITS: ClassVar[Limits] = {"channels": (1, 4096), "window_px": (1, 256), "stride_px": (1, 128)}

    def __post_init__(self) -> None:
        check_limits(self, "features.patch")
        if self.window_px < self.stride_px or (self.window_px - self.stride_px) % 2:
            raise ConfigError(
                f"features.patch.window_px must be stride_px, {self.stride_px}, plus an even number, "
                f"got {self.window_px}"
            )


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Which video diffusion model gives the features, from which block, and how it is conditioned.

    ``noise_sigma`` is our choice, not tuned on published weights: it hides little of the frame. In
    a 25-step generation with SVD's schedule, whose last step is 0.002, it lies between the fourth
    and the third step from the end.
    """

    # diffusers folder or hub name; empty: SVD's hub name for svd, the bundled weights for track4gen-mini
    model: str = ""
    block: int = 2  # index of the UNet up-block whose output (upsampled) is taken
    noise_sigma: float = 0.05  # EDM noise on the frame latents, in their own standard deviations
    refiner: bool = True  # refine the features, which svd cannot; false takes them raw
    segment_frames: int = 0  # frames that the UNet sees at once; 0: the number it was trained on
    fps: int = 7  # frame rate given to SVD, which conditions on fps - 1
    motion_bucket_id: int = 127  # amount of motion given to SVD; 127 is its default
    noise_aug_strength: float = 0.02  # noise on the conditioning frame, whose pixels are in -1..1
    half: bool = True  # float16 on a GPU, bfloat16 on a CPU that has it; false: float32

    LIMITS: ClassVar[Limits] = {
        "block": (0, 20),
        "noise_sigma": (1e-4, 700),
        "segment_frames": (0, 1000),
        "fps": (1, 1000),
        "motion_bucket_id": (0, 1000),
        "noise_aug_strength": (0, 10),
    }

    def __post_init__(self) -> None:
        check_limits(self, "features.diffusion")


@dataclass(frozen=True, kw_only=True)
class ZeroscopeConfig:
    """From which block of ZeroScope the features are taken. Its weights are not for commercial use.

    ``timestep`` is our choice, not tuned: it hides little of the frame. ``segment_frames`` is what
    the model was trained on, according to its model card.
    """

    model: str = "cerspense/zeroscope_v2_576w"  # diffusers folder or hub name; CC-BY-NC-4.0
    block: int = 2  # index of the UNet up-block whose output (upsampled) is taken
    timestep: int = 50  # noise on the frame latents, as a step of its schedule; 0 is the least
    segment_frames: int = 24  # frames that the UNet sees at once
    half: bool = True  # float16 on a GPU, bfloat16 on a CPU that has it; false: float32

    LIMITS: ClassVar[Limits] = {"block": (0, 20), "timestep": (0, 100_000), "segment_frames": (1, 1000)}

    def __post_init__(self) -> None:
        check_limits(self, "features.zeroscope")
        if not self.model:
            raise ConfigError("features.zeroscope.model must name a diffusers folder or a hub model")


@dataclass(frozen=True, kw_only=True)
class ImageTransformerConfig:
    """Which image transformer gives the features, what of which layer, and how finely."""

    GROUP: ClassVar[str]

    model: str  # transformers folder or hub name
    layer: int = 0  # transformer block, 1 is the first; 0: the last
    facet: Facet = "token"  # the block's patch tokens; or the queries, keys or values of its attention
    norm: bool = True  # apply the model's last layer norm to tokens, of any layer
    stride_px: int = 8  # working pixels between patches: the frame is enlarged or shrunk until it fits
    patch_stride: int = 0  # its pixels between patches; fewer than a patch's: they overlap; 0: a patch's
    half: bool = True  # float16 on a GPU, bfloat16 on a CPU that has it; false: float32

    LIMITS: ClassVar[Limits] = {"layer": (0, 100), "stride_px": (1, 128), "patch_stride": (0, 128)}

    def __post_init__(self) -> None:
        check_limits(self, self.GROUP)
        if not self.model:
            raise ConfigError(f"{self.GROUP}.model must name a transformers folder or a hub model")


@dataclass(frozen=True, kw_only=True)
class Dinov2Config(ImageTransformerConfig):
    """DINOv2, whose patches are 14 pixels wide."""

    GROUP: ClassVar[str] = "features.dinov2"

    model: str = "facebook/dinov2-base"  # transformers folder or hub name


@dataclass(frozen=True, kw_only=True)
class DinoConfig(ImageTransformerConfig):
    """The first DINO; the default has patches of 8 pixels, so that frames keep their size."""

    GROUP: ClassVar[str] = "features.dino"

    model: str = "facebook/dino-vits8"  # transformers folder or hub name; its patches have 8 px


@dataclass(frozen=True, kw_only=True)
class FusedConfig:
    """Which two extractors are matched together, and how much each counts."""

    first: SingleExtractor = "track4gen-mini"  # read with the settings of its own
    second: SingleExtractor = "dinov2"  # one that reads other settings
    first_weight: float = 1.0  # of the cosine similarity by the first one's features
    second_weight: float = 1.0  # of that by the second one's
    centre: bool = True  # subtract each one's mean feature of the video before scaling to unit length

    LIMITS: ClassVar[Limits] = {"first_weight": (0, 1000), "second_weight": (0, 1000)}

    def __post_init__(self) -> None:
        check_limits(self, "features.fused")
        if GROUPS[self.first] == GROUPS[self.second]:
            raise ConfigError(
                f"features.fused.second must read other settings than {self.first}, which reads those of "
                f"features.{GROUPS[self.first]}, got {self.second}"
            )
        if not self.first_weight + self.second_weight:
            raise ConfigError("features.fused.first_weight or second_weight must be above 0")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Which frozen features describe a video."""

    extractor: Extractor = "track4gen-mini"  # track4gen-mini is bundled, patch needs no weights
    patch: PatchConfig = field(default_factory=PatchConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)  # track4gen-mini, track4gen, svd
    zeroscope: ZeroscopeConfig = field(default_factory=ZeroscopeConfig)
    dinov2: Dinov2Config = field(default_factory=Dinov2Config)
    dino: DinoConfig = field(default_factory=DinoConfig)
    fused: FusedConfig = field(default_factory=FusedConfig)

    @property
    def singles(self) -> tuple[SingleExtractor, ...]:
        """The extractors that run: the chosen one, or the two that are fused."""
        if self.extractor == "fused":
            return self.fused.first, self.fused.second
        return (self.extractor,)


# Channels of each extractor's features with its default model and block.
_CHANNELS: dict[str, int] = {
    "track4gen-mini": 128,
    "track4gen": 640,
    "svd": 640,
    "zeroscope": 640,
    "dinov2": 768,
    "dino": 384,
}


def feature_channels(config: FeaturesConfig) -> int:
    """How many channels the features have; with a model of one's own, as many as with the default one."""
    return sum(config.patch.channels if name == "patch" else _CHANNELS[name] for name in config.singles)


def size_multiple(config: FeaturesConfig) -> int:
    """What both sides of the working size must be multiples of."""
    return max(SIZE_MULTIPLE.get(name, 1) for name in config.singles)
