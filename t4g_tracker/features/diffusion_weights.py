"""Finding, checking and strictly loading a Stable Video Diffusion folder, with or without a refiner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
from safetensors import SafetensorError
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from t4g_tracker.errors import WeightsError, one_line
from t4g_tracker.features.refiner import Refiner

SETTING = "features.diffusion.model"
UNET_CLASS = "UNetSpatioTemporalConditionModel"
REFINER = "refiner"
CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "image_encoder": "config.json",
    "scheduler": "scheduler_config.json",
    "feature_extractor": "preprocessor_config.json",
    REFINER: "config.json",
}
WEIGHTED = ("unet", "vae", "image_encoder", REFINER)


def find_folder(model: str, need_refiner: bool) -> Path:
    """Return the folder that ``model`` names, downloading it first if it is a hub name.

    Args:
        model: Path of a folder, or a model hub name such as "owner/name".
        need_refiner: Whether ``refiner/`` is wanted as well.

    Raises:
        WeightsError: If there is no such folder, or the hub cannot be reached or refuses.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.count("/") != 1 or model.startswith((".", "~")):
        raise WeightsError(f"{SETTING}: {model}: no such folder; give a diffusers folder or a hub name")
    parts = [f"{part}/*" for part in CONFIGS if need_refiner or part != REFINER]
    try:
        return Path(
            snapshot_download(
                model, allow_patterns=["model_index.json", *parts], ignore_patterns=["*.bin", "*.fp16.*"]
            )
        )
    except GatedRepoError as error:
        raise WeightsError(
            f"{SETTING}: {model} asks you to accept its licence; do so on its hub page, run `hf auth login`,"
            f" and start again"
        ) from error
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise WeightsError(
            f"{SETTING}: {model} is no folder here, and the model hub cannot be reached or does not have it"
            f" ({_first_line(error)}); download it on a connected machine and pass its folder with"
            f" --set {SETTING}=FOLDER"
        ) from error


def check_folder(folder: Path, block: int, need_refiner: bool) -> None:
    """Make sure that ``folder`` holds every part and that they fit, without loading weights.

    Args:
        folder: Diffusers layout: ``model_index.json`` and one folder a part.
        block: UNet up-block that features are taken from.
        need_refiner: Whether ``refiner/`` must be there too.

    Raises:
        WeightsError: Naming the part that is missing or does not fit.
    """
    _read_json(folder / "model_index.json")
    configs = {
        part: _read_json(folder / part / name)
        for part, name in CONFIGS.items()
        if need_refiner or part != REFINER
    }
    for part in configs:
        if part in WEIGHTED and not _weight_files(folder / part):
            raise WeightsError(f"{SETTING}: {folder / part} holds no weights (.safetensors or .bin)")
    found = configs["unet"].get("_class_name")
    if found != UNET_CLASS:
        raise WeightsError(
            f"{SETTING}: {folder / 'unet'} is a {found}, not the {UNET_CLASS} of Stable Video Diffusion"
        )
    widths = configs["unet"].get("block_out_channels", (320, 640, 1280, 1280))
    if block >= len(widths):
        raise WeightsError(
            f"{SETTING}: {folder / 'unet'} has up-blocks 0 to {len(widths) - 1};"
            f" set features.diffusion.block to one of them, not {block}"
        )
    if need_refiner:
        unet_channels, refiner_channels = widths[-1 - block], configs[REFINER].get("channels", 640)
        if unet_channels != refiner_channels:
            raise WeightsError(
                f"{SETTING}: {folder / REFINER} takes {refiner_channels} channels, but up-block {block} of"
                f" the UNet gives {unet_channels}; set features.diffusion.block to the one it was trained on"
            )


def load_pipeline(folder: Path, dtype: torch.dtype) -> StableVideoDiffusionPipeline:
    """Load Stable Video Diffusion on the CPU, every weight accounted for.

    The VAE stays in float32 whatever ``dtype`` is: SVD's overflows in float16, and it is a
    twentieth of the whole.

    Raises:
        WeightsError: If a part cannot be read or a weight is missing, left over or misshapen.
    """
    image_encoder = _load_strictly(CLIPVisionModelWithProjection, folder, "image_encoder")
    return StableVideoDiffusionPipeline(
        vae=_load_strictly(AutoencoderKLTemporalDecoder, folder, "vae", torch_dtype=torch.float32),
        image_encoder=image_encoder.to(dtype),
        unet=_load_strictly(UNetSpatioTemporalConditionModel, folder, "unet", torch_dtype=dtype),
        scheduler=EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler"),
        feature_extractor=CLIPImageProcessor.from_pretrained(folder, subfolder="feature_extractor"),
    )


def load_refiner(folder: Path, dtype: torch.dtype) -> Refiner:
    """Load ``refiner/`` on the CPU. Errors: as ``load_pipeline``."""
    refiner: Refiner = _load_strictly(Refiner, folder, REFINER, torch_dtype=dtype)
    return refiner


def _load_strictly(kind: Any, folder: Path, part: str, **options: Any) -> Any:
    """``from_pretrained`` that refuses weights which are missing, left over or misshapen."""
    files = _weight_files(folder / part)
    if files and all(".fp16." in file.name for file in files):
        options["variant"] = "fp16"
    try:
        model, report = kind.from_pretrained(
            folder, subfolder=part, local_files_only=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{SETTING}: {folder / part} cannot be loaded ({one_line(error)})") from error
    for fault in ("missing", "unexpected", "mismatched"):
        # older CLIP checkpoints carry their constant 0, 1, 2, ... along
        names = sorted(str(key) for key in report[f"{fault}_keys"] if "position_ids" not in str(key))
        if names:
            raise WeightsError(
                f"{SETTING}: {folder / part} does not fit its config.json: {len(names)} {fault} weights,"
                f" the first is {names[0]}"
            )
    return model.eval().requires_grad_(False)


def _weight_files(folder: Path) -> list[Path]:
    return [*folder.glob("*.safetensors"), *folder.glob("*.bin")]


def _read_json(path: Path) -> dict[str, Any]:
    """Read one config of the layout, or say which part of it is missing."""
    part = f"{path.parent.name}/{path.name}" if path.name != "model_index.json" else path.name
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        remedy = "give a diffusers folder of Stable Video Diffusion"
        if path.parent.name == REFINER:
            remedy = (
                "Track4Gen's features come from its refiner; set features.diffusion.refiner=false without"
            )
        raise WeightsError(f"{SETTING}: {path} is missing; {remedy}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{SETTING}: {path} cannot be read as {part} ({one_line(error)})") from error
    if not isinstance(parsed, dict):
        raise WeightsError(f"{SETTING}: {path} is not a diffusers config")
    return parsed


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
