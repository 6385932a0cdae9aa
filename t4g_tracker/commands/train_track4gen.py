"""``t4g train-autoencoder`` and ``t4g train-track4gen``: arguments, and the stages of each."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import AutoencoderKLTemporalDecoder

from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.training_arguments import (
    add_training_arguments,
    ending_together,
    is_main_process,
    run_training,
)
from t4g_tracker.config import read_settings
from t4g_tracker.errors import ConfigError
from t4g_tracker.files import replace_folder
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.hardware import pick_device
from t4g_tracker.training.loop.frozen import weights_digest
from t4g_tracker.training.loop.items import check_room
from t4g_tracker.training.track4gen.autoencoder import (
    DecoderObjective,
    EncoderObjective,
    latent_scale,
    mini_autoencoder,
)
from t4g_tracker.training.track4gen.dataset import Clips, ClipViews, SyntheticClips, collate_clips
from t4g_tracker.training.track4gen.model_folder import (
    extractor_settings,
    is_autoencoder,
    load_autoencoder,
    save_half,
    save_model,
    starting_point,
)
from t4g_tracker.training.track4gen.objective import Track4GenObjective
from t4g_tracker.training.track4gen.real_clips import RealClips
from t4g_tracker.training.track4gen.settings import AutoencoderTraining, ClipsConfig, Track4GenTraining
from t4g_tracker.training.track4gen.validation import AutoencoderValidation, Track4GenValidation

PREPARING_TIMEOUT = timedelta(days=7)  # that other processes wait for the flow of all videos


def train_autoencoder(argv: list[str] | None = None) -> int:
    """``t4g train-autoencoder``: returns the exit code."""
    return guarded(_train_autoencoder, argv)


@ending_together
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
    vae, objective = _autoencoder(request.out, encoding, request.seed)
    identity = {"command": "train-autoencoder", "clips": config.clips.identity()}
    if not encoding:
        identity["encoder"] = weights_digest(vae.encoder, vae.quant_conv)
    stretch = config.clips.segment_frames or 4
    finished = run_training(
        request,
        request.out / request.part,
        objective,
        ClipViews(_clips(request, config.clips), config.clips.view(stretch), request.seed),
        collate_clips,
        config.trainer,
        AutoencoderValidation(config.clips.validation_clips()),
        identity,
    )
    if not is_main_process():
        return 0
    if encoding:
        vae.encoder, vae.quant_conv = finished.encoder, finished.quant_conv
        frames = torch.cat([clip.frames[::8] for clip in config.clips.validation_clips()])
        vae.register_to_config(scaling_factor=latent_scale(vae, frames))
    else:
        vae.decoder = finished.decoder
    with replace_folder(request.out / "vae") as passing:
        save_half(vae, passing)
    print(
        f"autoencoder in {request.out / 'vae'}; next: t4g train-track4gen --from {request.out} --out FOLDER"
    )
    return 0


def _autoencoder(
    folder: Path, encoding: bool, seed: int
) -> tuple[AutoencoderKLTemporalDecoder, EncoderObjective | DecoderObjective]:
    """The autoencoder that a training starts from, and what trains one of its parts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not encoding:
            vae = load_autoencoder(folder)
            return vae, DecoderObjective(vae)
        vae = mini_autoencoder()
        if (folder / "vae").exists():
            vae.decoder = load_autoencoder(folder).decoder
        return vae, EncoderObjective(vae)


def train_track4gen(argv: list[str] | None = None) -> int:
    """``t4g train-track4gen``: returns the exit code."""
    return guarded(_train_track4gen, argv)


@ending_together
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
        "clips": config.clips.identity(),
        "objective": asdict(config.objective),
        "flow": asdict(config.flow),
    }
    clips = _clips(request, config.clips, config.flow)
    if isinstance(clips, RealClips):
        identity["files"] = [file.name for file in clips.files]  # which tell videos and flow by a digest
    if is_autoencoder(source):  # nothing else has been trained yet
        config = replace(config, objective=replace(config.objective, train_image_encoder=True))
    objective = Track4GenObjective(pipeline, refiner, config.objective, segment_frames)
    finished = run_training(
        request,
        request.out,
        objective,
        ClipViews(clips, config.clips.view(segment_frames), request.seed),
        collate_clips,
        config.trainer,
        Track4GenValidation(config.clips.validation_clips()),
        identity,
    )
    if not is_main_process():
        return 0
    refined = save_model(request.out, finished, pipeline)
    settings = " ".join(extractor_settings(request.out, config.objective, refined))
    print(f"model in {request.out}; use it with --set features.extractor=track4gen {settings}")
    return 0


def _clips(request: argparse.Namespace, config: ClipsConfig, flow: FlowConfig | None = None) -> Clips:
    size = (config.height, config.width)
    if flow is not None and request.videos is not None:
        device, folder = pick_device(request.device), request.out / "clips"
        with PartialState(timeout=PREPARING_TIMEOUT).main_process_first():
            return RealClips(request.videos, config.frames, size, config.points, folder, flow, device)
    if request.keep_clips is not None:
        bytes_each = 3 * config.frames * size[0] * size[1] + 9 * config.points * config.frames
        check_room(request.keep_clips, config.count, bytes_each, "clips.count")
    return SyntheticClips(config.count, config.frames, size, config.points, request.seed, request.keep_clips)
