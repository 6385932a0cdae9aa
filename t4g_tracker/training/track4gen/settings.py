"""Settings of ``t4g train-autoencoder`` and ``t4g train-track4gen``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from t4g_tracker.errors import ConfigError
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.limits import HUGE, Limits, check_limits
from t4g_tracker.synthetic.clips import CLIPS_VERSION, TrainingClip, generate_clip, val_generator
from t4g_tracker.synthetic.photographs import Album
from t4g_tracker.training.loop.items import check_room
from t4g_tracker.training.loop.settings import TrainerConfig
from t4g_tracker.training.track4gen.crops import Crop
from t4g_tracker.training.track4gen.dataset import SyntheticClips
from t4g_tracker.training.track4gen.objective import ObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class ClipsConfig:
    """The clips to train on, and the crops taken of them."""

    count: int = 20_000  # different synthetic clips
    frames: int = 24  # of each clip
    height: int = 288  # of the frames, pixels
    width: int = 512
    crop_height: int = 256  # of the network's input, a multiple of 32
    crop_width: int = 448
    segments: int = 2  # stretches of frames in a crop, anywhere in the clip
    segment_frames: int = 0  # frames of each stretch; 0: the number that the UNet sees at once
    turn: float = 0.3  # largest rotation of a stretch, radians
    zoom: float = 1.35  # largest enlargement and reduction of a stretch
    tint: float = 0.2  # largest change of a stretch's contrast and brightness
    points: int = 512  # tracks of a clip
    validation: int = 4  # clips to measure progress on

    LIMITS: ClassVar[Limits] = {
        "count": (1, HUGE),
        "frames": (3, 10_000),
        "height": (32, 4096),
        "width": (32, 4096),
        "crop_height": (32, 4096),
        "crop_width": (32, 4096),
        "segments": (1, 100),
        "segment_frames": (0, 10_000),
        "turn": (0, 3.2),
        "zoom": (1, 10),
        "tint": (0, 1),
        "points": (1, 100_000),
        "validation": (1, 1000),
    }

    def __post_init__(self) -> None:
        check_limits(self, "clips")
        if self.crop_height > self.height or self.crop_width > self.width:
            raise ConfigError("clips: crop_height and crop_width must be at most height and width")
        if self.crop_height % 32 or self.crop_width % 32:
            raise ConfigError("clips: crop_height and crop_width must be multiples of 32")
        if self.segment_frames > self.frames:
            raise ConfigError(
                f"clips.segment_frames must be at most clips.frames, {self.frames}, got {self.segment_frames}"
            )
        if self.segment_frames == 1:
            raise ConfigError(f"clips.segment_frames must be 0 or at least 2, got {self.segment_frames}")

    def crop(self, frames: int) -> Crop:
        """Describe random crops of these clips, with stretches of ``frames`` frames."""
        size = (self.crop_height, self.crop_width)
        return Crop(self.segments, frames, size, self.turn, self.zoom, self.tint)

    def synthetic(self, seed: int, folder: Path | None, album: Album | None = None) -> SyntheticClips:
        """Make the synthetic clips to train on, cached in ``folder``, with further photographs.

        Raises:
            OutputError: If the disk has too little room for all of them.
        """
        size = (self.height, self.width)
        if folder is not None:
            frame_bytes, track_bytes = 3 * size[0] * size[1], 9 * self.points  # of one frame
            check_room(folder, self.count, self.frames * (frame_bytes + track_bytes), "clips.count")
        return SyntheticClips(self.count, self.frames, size, self.points, seed, folder, album)

    def identity(self, album: Album | None = None) -> dict[str, Any]:
        """What decides a training's result: the album, and all settings but those that only measure it."""
        decisive = {name: value for name, value in asdict(self).items() if name != "validation"}
        photographs = {"photographs": album.digest} if album else {}
        return {**decisive, **photographs, "version": CLIPS_VERSION}

    def validation_clips(self) -> list[TrainingClip]:
        """Generate the clips to measure progress on, from seeds that no training uses."""
        return [
            generate_clip(val_generator(number), self.frames, (self.height, self.width), 256)
            for number in range(self.validation)
        ]


@dataclass(frozen=True, kw_only=True)
class AutoencoderTraining:
    """Settings of ``t4g train-autoencoder``."""

    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            batch=2, learning_rate=1e-3, steps=50_000, averaging=0.99, weight_decay=0.0
        )
    )
    clips: ClipsConfig = field(
        default_factory=lambda: ClipsConfig(
            frames=4,
            height=192,
            width=288,
            crop_height=128,
            crop_width=128,
            segments=1,
            segment_frames=4,
            turn=0.0,
            zoom=1.0,
        )
    )


@dataclass(frozen=True, kw_only=True)
class Track4GenTraining:
    """Settings of ``t4g train-track4gen``."""

    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(batch=1, learning_rate=5e-4))
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)  # makes the tracks of --videos


MINI_CLIPS = ClipsConfig(count=1000, segment_frames=4, crop_height=192, crop_width=320)


@dataclass(frozen=True, kw_only=True)
class MinisTraining:
    """Settings of ``t4g train-minis``: the autoencoder, the first denoiser, and the three trained from it."""

    autoencoder: AutoencoderTraining = field(default_factory=AutoencoderTraining)
    pretraining: Track4GenTraining = field(
        default_factory=lambda: Track4GenTraining(
            trainer=TrainerConfig(batch=None, learning_rate=5e-4, validate_every=2000),
            clips=MINI_CLIPS,
            objective=ObjectiveConfig(
                correspondence=0.0, refiner=False, low_noise_share=0.1, train_image_encoder=True
            ),
        )
    )
    finetuning: Track4GenTraining = field(  # Track4Gen's; the other two leave parts of its objective out
        default_factory=lambda: Track4GenTraining(
            trainer=TrainerConfig(batch=None, learning_rate=2e-4, validate_every=2000),
            clips=MINI_CLIPS,
            objective=ObjectiveConfig(pairs_per_frame=96, train_image_encoder=True),
        )
    )

    def __post_init__(self) -> None:
        if self.pretraining.objective.correspondence:  # no feedback goes without it
            raise ConfigError("pretraining.objective.correspondence must be 0: the first model only denoises")
        if not self.finetuning.objective.refines:
            raise ConfigError("finetuning.objective must have a refiner and correspondence above 0")
