"""``t4g train-minis``: small models of all four kinds that Track4Gen's paper compares, trained in one go."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t4g_tracker.commands.parser import Parser
from t4g_tracker.commands.printing import say
from t4g_tracker.commands.train_autoencoder import train_part
from t4g_tracker.commands.train_track4gen import train_model
from t4g_tracker.commands.training_arguments import (
    add_training_arguments,
    album_of,
    is_main_process,
    training_command,
)
from t4g_tracker.config import read_settings
from t4g_tracker.errors import CacheError, ConfigError
from t4g_tracker.storage.files import prepare_output_folder, replace_folder, write_json

if TYPE_CHECKING:
    from diffusers import AutoencoderKLTemporalDecoder

    from t4g_tracker.training.track4gen.settings import MinisTraining, Track4GenTraining

log = logging.getLogger(__name__)

AUTOENCODER = "autoencoder"
RECORD = "minis.json"
# Each part's share of the time budget, in the order of training. The last two take as many steps as
# track4gen, whose steps are the slowest.
SHARES = {
    "encoder": 0.03,
    "decoder": 0.12,
    "pretrained": 0.40,
    "track4gen": 0.15,
    "finetuned": 0.15,
    "norefiner": 0.15,
}
MODELS = ("pretrained", "finetuned", "norefiner", "track4gen")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in SHARES.items())
    parser = Parser(
        prog="t4g train-minis",
        description="Train four small video diffusion models to compare: pretrained, which only denoises, and"
        " from it, on the same clips and as many steps, finetuned (denoising alone), norefiner and track4gen."
        f" Their autoencoder is trained first. Shares of the time budget: {shares}. The same command"
        " resumes.",
    )
    parser.add_argument(
        "--encoder-of",
        metavar="MODEL",
        type=Path,
        help="train no encoder, take that of this model folder, such as assets/weights/track4gen-mini",
    )
    add_training_arguments(parser, _settings)
    return parser.parse(argv)


def _settings() -> MinisTraining:
    from t4g_tracker.training.track4gen.settings import MinisTraining

    return MinisTraining()


def _train(request: argparse.Namespace) -> None:
    from accelerate import PartialState

    from t4g_tracker.training.track4gen.model_folder import save_half

    config = read_settings(_settings(), request.config, request.assignments)
    if PartialState().num_processes > 1:
        raise ConfigError("t4g train-minis trains in one process; for several GPUs call the parts' commands")
    encoder = _encoder_of(request.encoder_of, request.seed) if request.encoder_of else None
    record = _Record.open(request, config, encoder)
    if encoder is not None and "encoder" not in record.parts:
        with replace_folder(request.out / AUTOENCODER / "vae") as temporary:
            save_half(encoder, temporary)
        record.finish("encoder", {})
    for part in SHARES:
        if part not in record.parts:
            log.info("training %s", part)
            _train_one(part, request, config, record.parts)
            record.finish(part, _taken(request.out, part))
    if is_main_process():
        models = " ".join(shlex.quote(f"{name}={request.out / name}") for name in MODELS)
        say(f"models in {request.out}; compare them on a picture of yours:")
        say(f"t4g generate --image PICTURE --models {models}")


def _encoder_of(model: Path, seed: int) -> AutoencoderKLTemporalDecoder:
    """An autoencoder with the encoder of a model, the scale of its latents, and an untrained decoder.

    Raises:
        WeightsError: If the model has none of this kind.
    """
    import torch

    from t4g_tracker.training.track4gen.autoencoder import mini_autoencoder
    from t4g_tracker.training.track4gen.model_folder import load_autoencoder

    given = load_autoencoder(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = mini_autoencoder()
    given.decoder = fresh.decoder
    return given


def _train_one(
    part: str, request: argparse.Namespace, config: MinisTraining, earlier: dict[str, Any]
) -> None:
    """Train one part; ``earlier`` says how many steps and which batch earlier ones took."""
    budget = None if request.time_budget is None else SHARES[part] * request.time_budget
    common = {**vars(request), "time_budget": budget, "videos": None}
    if part in ("encoder", "decoder"):
        arguments = argparse.Namespace(**{**common, "out": request.out / AUTOENCODER, "part": part})
        train_part(arguments, config.autoencoder)
        return
    source = AUTOENCODER if part == "pretrained" else "pretrained"
    common |= {"out": request.out / part, "source": str(request.out / source)}
    settings = _settings_of(part, config)
    if part in ("finetuned", "norefiner"):  # by steps, not by time
        common["time_budget"] = None
        settings = replace(settings, trainer=replace(settings.trainer, **earlier["track4gen"]))
    train_model(argparse.Namespace(**common), settings)


def _settings_of(part: str, config: MinisTraining) -> Track4GenTraining:
    """Choose the settings of one model's training."""
    if part == "pretrained":
        return config.pretraining
    objective = config.finetuning.objective
    if part == "finetuned":
        objective = replace(objective, correspondence=0.0, refiner=False, feedback=False, hidden=0.0)
    elif part == "norefiner":
        objective = replace(objective, refiner=False, feedback=False)
    return replace(config.finetuning, objective=objective)


def _taken(out: Path, part: str) -> dict[str, int]:
    """Read the steps and the batch of a finished training from its checkpoint."""
    from t4g_tracker.storage.torch_files import load_torch
    from t4g_tracker.training.loop.trainer import CHECKPOINT

    folder = out / AUTOENCODER / part if part in ("encoder", "decoder") else out / part
    saved = load_torch(folder / CHECKPOINT, "--out", "delete it, or give another --out")
    return {"steps": saved["step"], "batch": json.loads(saved["identity"])["trainer"]["batch"]}


def _decisive(config: MinisTraining) -> dict[str, Any]:
    """The settings that decide the result, without those that may change when a training resumes."""
    from t4g_tracker.training.loop.trainer import MAY_CHANGE

    groups = asdict(config)
    for group in groups.values():
        group["trainer"] = {name: value for name, value in group["trainer"].items() if name not in MAY_CHANGE}
        del group["clips"]["validation"]
    return groups


class _Record:
    """A file that says how the models are trained, and which parts are finished: their steps and batch."""

    def __init__(self, path: Path, settings: dict[str, Any], parts: dict[str, Any]) -> None:
        self.path, self.settings, self.parts = path, settings, parts

    @staticmethod
    def open(
        request: argparse.Namespace, config: MinisTraining, encoder: AutoencoderKLTemporalDecoder | None
    ) -> _Record:
        """Read the record of an earlier call, or begin one.

        Raises:
            CacheError: If the earlier call had other settings.
            ConfigError: If ``--photographs`` has none.
            OutputError: If the folder cannot be written.
        """
        from t4g_tracker.identity import refuse
        from t4g_tracker.training.loop.frozen import weights_digest

        album = album_of(request)
        settings = {
            "time_budget": request.time_budget,
            "seed": request.seed,
            "photographs": album.digest if album else "",
            "encoder": weights_digest(encoder.encoder, encoder.quant_conv) if encoder else "",
            "settings": _decisive(config),
        }
        path = prepare_output_folder(request.out) / RECORD
        if not path.exists():
            return _Record(path, settings, {})
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            before, parts = {"encoder": "", **saved["trained"]}, saved["parts"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{path}: is damaged; delete it, or give another --out") from error
        refuse(path, before, settings, "use the same (encoder: that of --encoder-of), or another --out")
        return _Record(path, settings, parts)

    def finish(self, part: str, taken: dict[str, int]) -> None:
        """Note that a part is finished, with its steps and batch."""
        self.parts[part] = taken
        write_json(self.path, {"trained": self.settings, "parts": self.parts})


main = training_command(_parse, _train)
