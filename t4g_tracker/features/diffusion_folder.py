"""Finding and checking a Stable Video Diffusion folder, with or without a refiner, without loading a model.

Apart from what loads it, since diffusers takes seconds to import, and a run that finds its features cached
needs the check alone.
"""

from __future__ import annotations

from pathlib import Path

from t4g_tracker.errors import WeightsError
from t4g_tracker.features import model_configs, model_files
from t4g_tracker.features.layouts import SVD, TRACK4GEN
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


def find_folder(model: str, need_refiner: bool) -> Path:
    """Return the folder that ``model`` names, downloading it first if it is a hub name.

    Args:
        model: Path of a folder, or a model hub name such as "owner/name".
        need_refiner: Whether ``refiner/`` is needed too.

    Raises:
        WeightsError: If the folder is missing, or the hub cannot be reached or refuses.
    """
    return model_files.find_folder(model, TRACK4GEN if need_refiner else SVD)


def check_folder(folder: Path, block: int, need_refiner: bool) -> None:
    """Check that ``folder`` holds every part and that they fit together, without loading weights.

    Args:
        folder: A folder in diffusers layout: ``model_index.json`` and one folder for each part.
        block: UNet up-block that features are taken from.
        need_refiner: Whether ``refiner/`` is needed too.

    Raises:
        WeightsError: Names the part that is missing or does not fit.
    """
    configs = model_files.read_configs(folder, TRACK4GEN if need_refiner else SVD)
    channels = model_configs.block_channels(
        configs["unet/config.json"], folder / "unet", UNET_CLASS, block, "features.diffusion"
    )
    number, files = model_configs.config_number, {name: folder / name for name in configs}
    number(configs["unet/config.json"], "num_frames", 25, files["unet/config.json"], SETTING)
    vae = configs["vae/config.json"]
    number(vae, "scaling_factor", 0.18215, files["vae/config.json"], SETTING, model_configs.POSITIVE)
    if need_refiner:
        refiner = configs["refiner/config.json"]
        refiner_channels = number(refiner, "channels", 640, files["refiner/config.json"], SETTING)
        if channels != refiner_channels:
            raise WeightsError(
                f"{SETTING}: {folder / 'refiner'} takes {refiner_channels} channels, but up-block {block} of"
                f" the UNet gives {channels}; set features.diffusion.block to the block it was trained on"
            )
