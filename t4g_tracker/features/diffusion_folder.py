"""Finding and checking a Stable Video Diffusion folder, with or without a refiner, without loading a model.

Apart from what loads it, since diffusers takes seconds to import, and a run that finds its features cached
needs the check alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from t4g_tracker.errors import WeightsError
from t4g_tracker.features import model_configs, model_files
from t4g_tracker.features.layouts import FEEDBACK, SVD, TRACK4GEN, Layout
from t4g_tracker.features.settings import SVD_MODEL, DiffusionConfig, Kind

SETTING = SVD.setting
UNET_CLASS = "UNetSpatioTemporalConditionModel"


def check(config: DiffusionConfig, kind: Kind) -> Path:
    """Check that the weights are there and fit together, without loading them.

    Call it before long work; a hub name is downloaded here.

    Args:
        config: Which model.
        kind: "track4gen" needs a model of the user's own, with ``refiner/`` unless
            ``config.refiner`` is off; "svd" ignores any refiner.

    Returns:
        The folder of the weights.

    Raises:
        WeightsError: If a part is missing, does not fit, or cannot be downloaded.
    """
    if kind == "track4gen" and not config.model:
        raise WeightsError(
            "features.diffusion.model is empty, and Track4Gen's weights are not published; give the folder of"
            " weights trained here with --set features.diffusion.model=FOLDER, or set features.extractor=svd"
        )
    need_refiner = kind == "track4gen" and config.refiner
    folder = find_folder(config.model or SVD_MODEL, need_refiner)
    check_folder(folder, config.block, need_refiner)
    return folder


def find_folder(model: str, need_refiner: bool, setting: str = SETTING) -> Path:
    """Return the folder that ``model`` names, downloading it first if it is a hub name.

    Args:
        model: Path of a folder, or a model hub name such as "owner/name".
        need_refiner: Whether ``refiner/`` is needed too.
        setting: What names the model, for error messages.

    Raises:
        WeightsError: If the folder is missing, or the hub cannot be reached or refuses.
    """
    return model_files.find_folder(model, _layout(need_refiner, setting))


def _layout(need_refiner: bool, setting: str) -> Layout:
    return replace(TRACK4GEN if need_refiner else SVD, setting=setting)


def check_folder(folder: Path, block: int, need_refiner: bool, setting: str = SETTING) -> dict[str, Any]:
    """Check that ``folder`` holds every part and that they fit together, without loading weights.

    Args:
        folder: A folder in diffusers layout: ``model_index.json`` and one folder for each part.
        block: UNet up-block that features are taken from.
        need_refiner: Whether ``refiner/`` is needed too.
        setting: What names the folder, for error messages.

    Returns:
        The parsed configs, by their paths in the folder.

    Raises:
        WeightsError: Names the part that is missing or does not fit.
    """
    configs = model_files.read_configs(folder, _layout(need_refiner, setting))
    channels = model_configs.block_channels(
        configs["unet/config.json"], folder / "unet", UNET_CLASS, block, setting
    )
    number, files = model_configs.config_number, {name: folder / name for name in configs}
    number(configs["unet/config.json"], "num_frames", 25, files["unet/config.json"], setting)
    vae = configs["vae/config.json"]
    number(vae, "scaling_factor", 0.18215, files["vae/config.json"], setting, model_configs.POSITIVE)
    if need_refiner:
        refiner = configs["refiner/config.json"]
        refiner_channels = number(refiner, "channels", 640, files["refiner/config.json"], setting)
        if channels != refiner_channels:
            raise WeightsError(
                f"{setting}: {folder / 'refiner'} takes {refiner_channels} channels, but up-block {block} of"
                f" the UNet gives {channels}; set features.diffusion.block to the block it was trained on"
            )
    if has_feedback(folder):
        _check_feedback(folder, setting)
    return configs


def has_feedback(folder: Path) -> bool:
    """Whether the model in a folder feeds its refined features back into its UNet."""
    return (folder / "feedback").is_dir()


def _check_feedback(folder: Path, setting: str) -> None:
    """Check that the parts that feed features back fit together; raises WeightsError."""
    configs = model_files.read_configs(folder, replace(FEEDBACK, setting=setting))
    number = model_configs.config_number
    feedback, file = configs["feedback/config.json"], folder / "feedback" / "config.json"
    block = number(feedback, "block", 2, file, setting, (0, model_configs.MOST_LAYERS))
    channels = model_configs.block_channels(
        configs["unet/config.json"], folder / "unet", UNET_CLASS, block, setting
    )
    for part in ("refiner", "feedback"):
        config, file = configs[f"{part}/config.json"], folder / part / "config.json"
        if number(config, "channels", 640, file, setting) != channels:
            raise WeightsError(
                f"{setting}: {folder / part} does not take the {channels} channels of up-block {block}, whose"
                " features are fed back; copy the whole folder of that training again"
            )
