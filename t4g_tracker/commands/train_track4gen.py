"""``t4g train-track4gen``: train a video diffusion model whose features match points."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t4g_tracker.commands.arguments import path_text
from t4g_tracker.commands.parser import Parser
from t4g_tracker.commands.printing import say
from t4g_tracker.commands.training_arguments import (
    add_training_arguments,
    album_of,
    is_main_process,
    run_training,
    training_command,
)
from t4g_tracker.config import read_settings
from t4g_tracker.errors import ConfigError

if TYPE_CHECKING:
    from t4g_tracker.synthetic.photographs import Album
    from t4g_tracker.training.track4gen.dataset import Clips
    from t4g_tracker.training.track4gen.model_folder import StartingPoint
    from t4g_tracker.training.track4gen.settings import Track4GenTraining

PREPARING_TIMEOUT = timedelta(days=7)  # how long other processes wait for the flow of all videos


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="t4g train-track4gen",
        description="Train a video diffusion model together with a refiner so that its features match "
        "points. Writes the folder that features.extractor=track4gen reads.",
    )
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        help="model to start from: a Stable Video Diffusion folder (its refiner/, if any, is trained "
        "further) or hub name; or a folder of t4g train-autoencoder, for the mini model",
    )
    parser.add_argument(
        "--videos",
        type=path_text,
        help="folder of real videos to train on, with tracks from optical flow (default: synthetic clips)",
    )
    add_training_arguments(parser, _settings)
    return parser.parse(argv)


def _settings() -> Track4GenTraining:
    from t4g_tracker.training.track4gen.settings import Track4GenTraining

    return Track4GenTraining()


def _train(request: argparse.Namespace) -> None:
    from t4g_tracker.training.track4gen.model_folder import extractor_settings

    config = read_settings(_settings(), request.config, request.assignments)
    train_model(request, config)
    if is_main_process():
        settings = " ".join(extractor_settings(request.out, config.objective, config.objective.refines))
        say(f"model in {request.out}; use it with --set features.extractor=track4gen {settings}")


def train_model(request: argparse.Namespace, config: Track4GenTraining) -> None:
    """Train a model with the command's arguments, and write it to ``request.out``.

    Raises:
        Interrupted: If Ctrl-C ended the training early.
        TrackerError: As in ``run_training``; also if arguments or settings contradict each other.
    """
    from t4g_tracker.training.track4gen.dataset import ClipCrops, collate_clips
    from t4g_tracker.training.track4gen.model_folder import save_model, starting_point
    from t4g_tracker.training.track4gen.validation import Track4GenValidation

    _check(request, config)
    start = starting_point(request.source, config.objective, request.seed)
    segment_frames = config.clips.segment_frames or int(start.pipeline.unet.config.num_frames)
    if config.clips.frames < segment_frames:
        raise ConfigError(
            f"clips.frames must be at least {segment_frames}, the frames that the UNet sees at once, "
            f"got {config.clips.frames}"
        )
    album = album_of(request)
    clips = _clips(request, config, album)
    identity = _identity(request, config, clips, start, album)
    config = _with_image_encoder(request, config)
    finished = run_training(
        request,
        request.out,
        start.objective(config.objective, segment_frames),
        ClipCrops(clips, config.clips.crop(segment_frames), request.seed),
        collate_clips,
        config.trainer,
        Track4GenValidation(config.clips.validation_clips()),
        identity,
    )
    if is_main_process():
        save_model(request.out, finished, start.pipeline)


def _check(request: argparse.Namespace, config: Track4GenTraining) -> None:
    """Raise ConfigError if arguments contradict each other."""
    if request.videos is not None and config.objective.hidden:
        raise ConfigError(
            "objective.hidden: needs to know which points are hidden; for --videos, whose tracks end where"
            " the flow fails, set it to 0"
        )
    if Path(request.source).expanduser().resolve() == request.out.resolve():
        raise ConfigError(f"--out {request.out}: is the folder of --from; give another one")
    if request.videos is not None and request.keep_clips is not None:
        raise ConfigError(
            "--keep-clips: is for synthetic clips; leave it out, those of --videos are in --out"
        )
    if request.videos is not None and request.photographs is not None:
        raise ConfigError("--photographs: is for synthetic clips; leave it out, or --videos")


def _identity(
    request: argparse.Namespace,
    config: Track4GenTraining,
    clips: Clips,
    start: StartingPoint,
    album: Album | None,
) -> dict[str, Any]:
    """Everything that decides the result, besides seed and the trainer's settings; for the checkpoint."""
    from t4g_tracker.training.loop.frozen import weights_digest
    from t4g_tracker.training.track4gen.real_clips import RealClips

    identity: dict[str, Any] = {
        "command": "train-track4gen",
        "start": weights_digest(*start.modules()),
        "videos": str(request.videos and request.videos.resolve()),
        "clips": config.clips.identity(album),
        "objective": asdict(config.objective),
        "flow": asdict(config.flow),
    }
    if isinstance(clips, RealClips):  # the names of their files contain a digest of video and flow
        identity["files"] = [file.name for file in clips.files]
    return identity


def _clips(request: argparse.Namespace, config: Track4GenTraining, album: Album | None) -> Clips:
    """Open the clips to train on: synthetic ones, or those of real videos."""
    if request.videos is None:
        return config.clips.synthetic(request.seed, request.keep_clips, album)

    from accelerate import PartialState

    from t4g_tracker.hardware import pick_device
    from t4g_tracker.training.track4gen.real_clips import RealClips

    size = (config.clips.height, config.clips.width)
    device, folder = pick_device(request.device), request.out / "clips"
    with PartialState(timeout=PREPARING_TIMEOUT).main_process_first():
        return RealClips(
            request.videos, config.clips.frames, size, config.clips.points, folder, config.flow, device
        )


def _with_image_encoder(request: argparse.Namespace, config: Track4GenTraining) -> Track4GenTraining:
    """Train the image encoder too if only the autoencoder has been trained so far."""
    from t4g_tracker.training.track4gen.model_folder import is_autoencoder

    if not is_autoencoder(Path(request.source).expanduser()):
        return config
    return replace(config, objective=replace(config.objective, train_image_encoder=True))


main = training_command(_parse, _train)
