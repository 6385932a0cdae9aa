"""``t4g train-autoencoder``: train the mini model's own autoencoder, first its encoder, then its decoder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

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
from t4g_tracker.storage.files import replace_folder

if TYPE_CHECKING:
    from diffusers import AutoencoderKLTemporalDecoder

    from t4g_tracker.training.track4gen.autoencoder import DecoderObjective, EncoderObjective
    from t4g_tracker.training.track4gen.settings import AutoencoderTraining, ClipsConfig


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="t4g train-autoencoder",
        description="Train the mini model's own autoencoder on synthetic clips: first its encoder, then its "
        "decoder. Writes OUT/vae/.",
    )
    parser.add_argument(
        "--part",
        choices=("encoder", "decoder"),
        required=True,
        help="which part; the decoder needs the encoder in OUT/vae",
    )
    add_training_arguments(parser, _settings)
    return parser.parse(argv)


def _settings() -> AutoencoderTraining:
    from t4g_tracker.training.track4gen.settings import AutoencoderTraining

    return AutoencoderTraining()


def _train(request: argparse.Namespace) -> None:
    train_part(request, read_settings(_settings(), request.config, request.assignments))
    if is_main_process():
        folder = request.out / "vae"
        say(f"autoencoder in {folder}; next: t4g train-track4gen --from {request.out} --out FOLDER")


def train_part(request: argparse.Namespace, config: AutoencoderTraining) -> None:
    """Train one part with the command's arguments, and write the autoencoder to ``request.out``.

    Raises:
        Interrupted: If Ctrl-C ended the training early.
        TrackerError: As in ``run_training``; also if the decoder's encoder is missing.
    """
    from t4g_tracker.training.loop.frozen import weights_digest
    from t4g_tracker.training.track4gen.dataset import ClipCrops, collate_clips
    from t4g_tracker.training.track4gen.model_folder import save_half
    from t4g_tracker.training.track4gen.validation import AutoencoderValidation

    encoding = request.part == "encoder"
    vae, objective = _starting_point(request.out, encoding, request.seed)
    album = album_of(request)
    identity = {"command": "train-autoencoder", "clips": config.clips.identity(album)}
    if not encoding:
        identity["encoder"] = weights_digest(vae.encoder, vae.quant_conv)
    crop = config.clips.crop(config.clips.segment_frames or 4)
    finished = run_training(
        request,
        request.out / request.part,
        objective,
        ClipCrops(config.clips.synthetic(request.seed, request.keep_clips, album), crop, request.seed),
        collate_clips,
        config.trainer,
        AutoencoderValidation(config.clips.validation_clips()),
        identity,
    )
    if not is_main_process():
        return
    if encoding:
        _set_encoder(vae, finished, config.clips)
    else:
        vae.decoder = finished.decoder
    with replace_folder(request.out / "vae") as temporary:
        save_half(vae, temporary)


def _starting_point(
    folder: Path, encoding: bool, seed: int
) -> tuple[AutoencoderKLTemporalDecoder, EncoderObjective | DecoderObjective]:
    """Make the autoencoder that a training starts from, and the objective that trains one of its parts."""
    import torch

    from t4g_tracker.training.track4gen.autoencoder import (
        DecoderObjective,
        EncoderObjective,
        mini_autoencoder,
    )
    from t4g_tracker.training.track4gen.model_folder import load_autoencoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not encoding:
            vae = load_autoencoder(folder)
            return vae, DecoderObjective(vae)
        vae = mini_autoencoder()
        if (folder / "vae").exists():  # the decoder of an earlier training stays
            vae.decoder = load_autoencoder(folder).decoder
        return vae, EncoderObjective(vae)


def _set_encoder(vae: AutoencoderKLTemporalDecoder, trained: EncoderObjective, clips: ClipsConfig) -> None:
    """Put the trained encoder into the autoencoder, and measure the scale of its latents."""
    import torch

    from t4g_tracker.training.track4gen.autoencoder import latent_scale

    vae.encoder, vae.quant_conv = trained.encoder, trained.quant_conv
    frames = torch.cat([clip.frames[::8] for clip in clips.validation_clips()])
    vae.register_to_config(scaling_factor=latent_scale(vae, frames))


main = training_command(_parse, _train)
