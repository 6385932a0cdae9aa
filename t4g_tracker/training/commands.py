"""``t4g train-autoencoder`` and ``t4g train-track4gen``: arguments, settings and what they write."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline

from t4g_tracker.command_line import guarded, pick_device, read_settings
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features.diffusion_config import DiffusionConfig
from t4g_tracker.features.diffusion_weights import check_folder, find_folder, load_pipeline, load_refiner
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.flow import FlowConfig
from t4g_tracker.training.arguments import add_training_arguments, is_main_process, run_training
from t4g_tracker.training.autoencoder import (
    DecoderObjective,
    EncoderObjective,
    latent_scale,
    mini_autoencoder,
)
from t4g_tracker.training.clips import draw_clip, val_generator
from t4g_tracker.training.dataset import Clips, ClipViews, SyntheticClips, View, collate_clips
from t4g_tracker.training.frozen import weights_digest
from t4g_tracker.training.kept import check_room
from t4g_tracker.training.mini import FEATURE_CHANNELS, mini_pipeline
from t4g_tracker.training.real_clips import RealClips
from t4g_tracker.training.track4gen import ObjectiveConfig, Track4GenObjective
from t4g_tracker.training.trainer import TrainerConfig
from t4g_tracker.training.validation import AutoencoderValidation, Track4GenValidation


@dataclass(frozen=True, kw_only=True)
class ClipsConfig:
    """The clips that are trained on, and how much of each is looked at."""

    count: int = 20_000  # different synthetic clips
    frames: int = 24  # of each
    height: int = 288  # of each, pixels
    width: int = 512
    crop_height: int = 256  # of what the network sees, a multiple of 32
    crop_width: int = 448
    segments: int = 2  # stretches of frames a view has, anywhere in the clip
    segment_frames: int = 0  # frames of each stretch; 0: as many as the UNet was made to see at once
    turn: float = 0.3  # largest turn of a stretch against the others, radians
    zoom: float = 1.35  # largest enlargement and reduction of a stretch
    tint: float = 0.2  # largest change of a stretch's contrast and brightness
    points: int = 512  # tracks of a clip
    validation: int = 4  # clips to measure progress on

    def __post_init__(self) -> None:
        if self.crop_height > self.height or self.crop_width > self.width:
            raise ConfigError("clips: crop_height and crop_width may not be larger than height and width")
        if self.crop_height % 32 or self.crop_width % 32:
            raise ConfigError("clips: crop_height and crop_width must be multiples of 32")
        if self.segment_frames > self.frames:
            raise ConfigError(
                f"clips.segment_frames must be at most clips.frames, {self.frames}, got {self.segment_frames}"
            )
        if self.segment_frames < 0 or self.segment_frames in (1, 2):
            # with two, bfloat16 gradients of temporal convolutions are not finite on CPUs (torch 2.14)
            raise ConfigError(f"clips.segment_frames must be 0 or at least 3, got {self.segment_frames}")
        for name, least in (("count", 1), ("frames", 3), ("segments", 1), ("points", 1), ("validation", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"clips.{name} must be at least {least}, got {getattr(self, name)}")

    def view(self, frames: int) -> View:
        """Views of these clips with stretches of so many frames."""
        size = (self.crop_height, self.crop_width)
        return View(self.segments, frames, size, self.turn, self.zoom, self.tint)


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
    flow: FlowConfig = field(default_factory=FlowConfig)  # which makes the tracks of --videos


def train_autoencoder(argv: list[str] | None = None) -> int:
    """``t4g train-autoencoder``: returns the exit code."""
    return guarded(_train_autoencoder, argv)


def _train_autoencoder(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="t4g train-autoencoder",
        description="Train the mini model's own autoencoder on synthetic clips: first its encoder, then its "
        "decoder. Writes OUT/vae/.",
    )
    parser.add_argument(
        "--part", choices=("encoder", "decoder"), required=True, help="the decoder goes on from OUT/vae"
    )
    add_training_arguments(parser)
    request = parser.parse_args(argv)
    config = read_settings(AutoencoderTraining(), request.config, request.assignments)
    encoding = request.part == "encoder"
    if encoding:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            vae = mini_autoencoder()
        if (request.out / "vae").exists():
            vae.decoder = load_autoencoder(request.out).decoder
    else:
        vae = load_autoencoder(request.out)
    identity = {"command": "train-autoencoder", "clips": _what_is_seen(config.clips)}
    if not encoding:
        identity["encoder"] = weights_digest(vae.encoder, vae.quant_conv)
    stretch = config.clips.segment_frames or 4
    finished = run_training(
        request,
        request.out / request.part,
        EncoderObjective(vae) if encoding else DecoderObjective(vae),
        ClipViews(_clips(request, config.clips), config.clips.view(stretch), request.seed),
        collate_clips,
        config.trainer,
        AutoencoderValidation(_validation_clips(config.clips)),
        identity,
    )
    if not is_main_process():
        return 0
    if encoding:
        vae.encoder, vae.quant_conv = finished.encoder, finished.quant_conv
        frames = torch.cat([clip.frames[::8] for clip in _validation_clips(config.clips)])
        vae.register_to_config(scaling_factor=latent_scale(vae, frames))
    else:
        vae.decoder = finished.decoder
    vae.to("cpu", torch.float16).save_pretrained(request.out / "vae")
    print(
        f"autoencoder in {request.out / 'vae'}; next: t4g train-track4gen --from {request.out} --out FOLDER"
    )
    return 0


def load_autoencoder(folder: Path) -> AutoencoderKLTemporalDecoder:
    """The autoencoder that ``t4g train-autoencoder`` left in ``folder``, in single precision.

    Raises:
        WeightsError: If there is none.
    """
    try:
        return AutoencoderKLTemporalDecoder.from_pretrained(
            folder, subfolder="vae", torch_dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{folder / 'vae'}: holds no autoencoder; run t4g train-autoencoder --part encoder first"
        ) from error


def train_track4gen(argv: list[str] | None = None) -> int:
    """``t4g train-track4gen``: returns the exit code."""
    return guarded(_train_track4gen, argv)


def _train_track4gen(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="t4g train-track4gen",
        description="Train a video diffusion model together with a refiner so that its inner features match "
        "points. Writes the folder that features.extractor=track4gen reads.",
    )
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        help="what to start from: a Stable Video Diffusion folder (with refiner/ where training is to go "
        "on from one) or hub name; or a folder of t4g train-autoencoder, for the mini model",
    )
    parser.add_argument(
        "--videos", type=Path, help="folder of real videos, whose tracks flow makes; synthetic clips without"
    )
    add_training_arguments(parser)
    request = parser.parse_args(argv)
    config = read_settings(Track4GenTraining(), request.config, request.assignments)
    source = Path(request.source).expanduser()
    if source.resolve() == request.out.resolve():
        raise ConfigError(f"--out {request.out}: is what --from names; give another folder")
    if request.videos is not None and request.keep_clips is not None:
        raise ConfigError("--keep-clips: synthetic clips are kept there; those of --videos are kept in --out")
    pipeline, refiner = starting_point(request.source, config.objective, request.seed)
    segment_frames = config.clips.segment_frames or int(pipeline.unet.config.num_frames)
    if config.clips.frames < segment_frames:
        raise ConfigError(
            f"clips.frames must be at least {segment_frames}, which the UNet is given at once, "
            f"got {config.clips.frames}"
        )
    identity = {
        "command": "train-track4gen",
        "start": weights_digest(pipeline.vae, pipeline.image_encoder, pipeline.unet, refiner),
        "videos": str(request.videos and request.videos.resolve()),
        "clips": _what_is_seen(config.clips),
        "objective": asdict(config.objective),
        "flow": asdict(config.flow),
    }
    if is_autoencoder(source):  # nothing else has been trained yet
        config = replace(config, objective=replace(config.objective, train_image_encoder=True))
    objective = Track4GenObjective(pipeline, refiner, config.objective, segment_frames)
    finished = run_training(
        request,
        request.out,
        objective,
        ClipViews(
            _clips(request, config.clips, config.flow), config.clips.view(segment_frames), request.seed
        ),
        collate_clips,
        config.trainer,
        Track4GenValidation(_validation_clips(config.clips)),
        identity,
    )
    if not is_main_process():
        return 0
    refined = save_model(request.out, finished, pipeline)
    settings = " ".join(extractor_settings(request.out, config.objective, refined))
    print(f"model in {request.out}; use it with --set features.extractor=track4gen {settings}")
    return 0


def extractor_settings(model: Path, trained: ObjectiveConfig, refined: bool) -> list[str]:
    """The settings, where they are not the defaults, that take the features that were trained."""
    wanted = DiffusionConfig(
        model=str(model),
        refiner=refined,
        block=trained.block,
        noise_sigma=trained.low_noise_sigma,
        noise_aug_strength=trained.noise_aug_strength,
        fps=trained.fps,
        motion_bucket_id=trained.motion_bucket_id,
    )
    usual = asdict(DiffusionConfig())
    return [
        f"features.diffusion.{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in asdict(wanted).items()
        if value != usual[name]
    ]


def is_autoencoder(folder: Path) -> bool:
    """Whether a folder is one of ``t4g train-autoencoder``."""
    return (folder / "vae").is_dir() and not (folder / "unet").exists()


def starting_point(
    source: str, config: ObjectiveConfig, seed: int
) -> tuple[StableVideoDiffusionPipeline, Refiner]:
    """The pipeline that ``--from`` names, and a refiner that fits it: its own, or a new one.

    Raises:
        WeightsError: If the folder is neither a pipeline nor one of ``t4g train-autoencoder``, or its
            parts do not fit together.
    """
    folder = Path(source).expanduser()
    if is_autoencoder(folder):
        pipeline = mini_pipeline(load_autoencoder(folder), seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return pipeline, Refiner(channels=FEATURE_CHANNELS)
    try:
        folder = find_folder(source, need_refiner=False)
        refined = (folder / "refiner").is_dir()
        check_folder(folder, config.block, refined)
        pipeline = load_pipeline(folder, torch.float32)
    except WeightsError as error:
        raise WeightsError(f"--from {source}: {error}") from error
    if refined:
        return pipeline, load_refiner(folder, torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return pipeline, Refiner(channels=pipeline.unet.config.block_out_channels[-1 - config.block])


def save_model(folder: Path, objective: Track4GenObjective, pipeline: StableVideoDiffusionPipeline) -> bool:
    """Write the trained parts in half precision, in the layout that the extractor reads.

    Returns:
        Whether there is a refiner among them.
    """
    if objective.config.train_image_encoder:
        pipeline.register_modules(image_encoder=objective.image_encoder)
    objective.unet.register_to_config(num_frames=objective.segment_frames)
    pipeline.register_modules(unet=objective.unet)
    pipeline.to("cpu", torch.float16).save_pretrained(folder)
    refined = objective.config.refiner and objective.config.correspondence > 0
    if refined:
        objective.refiner.to("cpu", torch.float16).save_pretrained(folder / "refiner")
    return refined


def _what_is_seen(config: ClipsConfig) -> dict[str, Any]:
    """What of the clips decides what a training comes to: all but those that only measure it."""
    return {name: value for name, value in asdict(config).items() if name != "validation"}


def _clips(request: argparse.Namespace, config: ClipsConfig, flow: FlowConfig | None = None) -> Clips:
    size = (config.height, config.width)
    if flow is not None and request.videos is not None:
        device, folder = pick_device(request.device), request.out / "clips"
        with PartialState().main_process_first():
            return RealClips(request.videos, config.frames, size, config.points, folder, flow, device)
    if request.keep_clips is not None:
        bytes_each = 3 * config.frames * size[0] * size[1] + 9 * config.points * config.frames
        check_room(request.keep_clips, config.count, bytes_each, "clips.count")
    return SyntheticClips(config.count, config.frames, size, config.points, request.seed, request.keep_clips)


def _validation_clips(config: ClipsConfig) -> list[Any]:
    return [
        draw_clip(val_generator(number), config.frames, (config.height, config.width), 256)
        for number in range(config.validation)
    ]
