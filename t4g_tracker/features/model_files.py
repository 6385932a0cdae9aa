"""Finding, fetching, checking and strictly loading a folder of published weights, whatever the model."""

from __future__ import annotations

import errno
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import GatedRepoError
from safetensors import SafetensorError, safe_open

from t4g_tracker.errors import WeightsError, one_line
from t4g_tracker.features.layouts import Layout

log = logging.getLogger(__name__)

UNET_WIDTHS = (320, 640, 1280, 1280)  # where a config names none: the defaults of both UNet classes
NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}


def find_folder(model: str, layout: Layout) -> Path:
    """Return the folder that ``model`` names; a hub name that is not kept here yet is downloaded.

    Args:
        model: Path of a folder, or a model hub name such as "owner/name".
        layout: What the folder has to hold.

    Raises:
        WeightsError: If there is no such folder, or the hub cannot be reached or refuses.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.count("/") != 1 or model.startswith((".", "~")):
        raise WeightsError(f"{layout.setting}: {model}: no such folder; give {layout.kind} or a hub name")
    return kept_folder(model, layout) or download(model, layout)


def kept_folder(model: str, layout: Layout) -> Path | None:
    """The folder a hub name was downloaded to, if every part of it is there; never asks the network."""
    try:
        folder = Path(snapshot_download(model, local_files_only=True, allow_patterns=_wanted(layout)))
    except (OSError, ValueError):
        return None
    return folder if is_complete(folder, layout) else None


def cache_place(model: str) -> Path:
    """Where the hub's cache keeps a model, downloaded or not."""
    return Path(HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"


def download(model: str, layout: Layout) -> Path:
    """Fetch the parts of a hub model, going on where an earlier download stopped.

    Safetensors are fetched where there are any; pickled weights (.bin) only for parts that
    are published in no other form, as ZeroScope's are.

    Returns:
        The folder in the hub's cache.

    Raises:
        WeightsError: If the hub cannot be reached or refuses, or the cache cannot be written.
    """
    log.info("fetching %s from the model hub; t4g weights list tells its size and licence", model)
    try:
        folder = Path(snapshot_download(model, allow_patterns=_wanted(layout), ignore_patterns=["*.fp16.*"]))
        pickled = [f"{part}/*.bin" for part in layout.weighted if not weight_files(folder / part)]
        if pickled:
            patterns = [pattern.removeprefix("./") for pattern in pickled]
            snapshot_download(model, allow_patterns=patterns, ignore_patterns=["*.fp16.*"])
    except GatedRepoError as error:
        raise WeightsError(
            f"{layout.setting}: {model} asks you to accept its licence; do so on its hub page, run"
            f" `hf auth login`, and start again"
        ) from error
    except Exception as error:  # the hub's HTTP library, and so its errors, differ by version
        if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
            raise WeightsError(
                f"{cache_place(model)}: {model} cannot be written there ({one_line(error)}); make room, or"
                f" set HF_HOME to another folder"
            ) from error
        raise WeightsError(
            f"{layout.setting}: {model} is no folder here, and the model hub cannot be reached or does not"
            f" have it ({one_line(error)}); on a connected machine run"
            f" hf download {model} --local-dir FOLDER, bring the folder here, and name it:"
            f" {layout.setting}=FOLDER"
        ) from error
    return folder


def read_configs(folder: Path, layout: Layout) -> dict[str, dict[str, Any]]:
    """Read every config of a folder, having made sure that the weights beside them are whole.

    Weights are not loaded: safetensors say their own length, and files of one set their number.

    Returns:
        The parsed configs by the paths that ``layout`` gives.

    Raises:
        WeightsError: Naming the part that is missing or cut short.
    """
    configs = {name: _read_json(folder / name, layout) for name in layout.configs}
    for part in layout.weighted:
        files = weight_files(folder / part)
        if not files:
            raise WeightsError(f"{layout.setting}: {folder / part} holds no weights (.safetensors or .bin)")
        fault = _fault(files)
        if fault:
            raise WeightsError(
                f"{layout.setting}: {folder / part} cannot be loaded ({fault}); fetch it again"
            )
    return configs


def is_complete(folder: Path, layout: Layout) -> bool:
    """Whether every part is there and whole, as far as can be told without loading it."""
    try:
        read_configs(folder, layout)
    except WeightsError:
        return False
    return True


def block_channels(unet: dict[str, Any], folder: Path, wanted: str, block: int, stage: str) -> int:
    """Channels of one up-block of a UNet, from its config.

    Args:
        unet: The parsed config.
        folder: Where it was found, for error messages.
        wanted: The class it has to be of.
        block: Index of the up-block.
        stage: The settings in use, such as "features.diffusion".

    Raises:
        WeightsError: If it is another kind of network, or has no such block.
    """
    if unet.get("_class_name") != wanted:
        raise WeightsError(
            f"{stage}.model: {folder} is a {unet.get('_class_name')}, not a {wanted};"
            f" give a model of the kind that features.extractor names"
        )
    widths = unet.get("block_out_channels", UNET_WIDTHS)
    if block >= len(widths):
        raise WeightsError(
            f"{stage}.model: {folder} has up-blocks 0 to {len(widths) - 1};"
            f" set {stage}.block to one of them, not {block}"
        )
    channels: int = widths[-1 - block]
    return channels


def load_strictly(kind: Any, folder: Path, part: str, setting: str, **options: Any) -> Any:
    """``from_pretrained`` that refuses weights which are missing, left over or misshapen.

    Args:
        kind: A model class of diffusers or transformers.
        folder: The folder of the whole model; only local files are looked at.
        part: Its subfolder, or "." for the folder itself.
        setting: The setting that named the folder, for error messages.
        options: Passed on to ``from_pretrained``.

    Returns:
        The model on the CPU, in evaluation mode and frozen.

    Raises:
        WeightsError: If it cannot be read or a weight does not fit.
    """
    files = weight_files(folder / part)
    if files and all(".fp16." in file.name for file in files):
        options["variant"] = "fp16"
    if files and all(file.suffix == ".bin" for file in files):
        options["use_safetensors"] = False
    if part != ".":
        options["subfolder"] = part
    try:
        with _no_bars():  # of a moment each, in the middle of the program's own
            model, report = kind.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{setting}: {folder / part} cannot be loaded ({one_line(error)})") from error
    for fault in ("missing", "unexpected", "mismatched"):
        # older CLIP checkpoints carry their constant 0, 1, 2, ... along
        names = sorted(str(key) for key in report[f"{fault}_keys"] if "position_ids" not in str(key))
        if names:
            raise WeightsError(
                f"{setting}: {folder / part} does not fit its config.json: {len(names)} {fault} weights,"
                f" the first is {names[0]}"
            )
    return model.eval().requires_grad_(False)


def weight_files(folder: Path) -> list[Path]:
    """The files of weights directly in a folder, safetensors before pickled ones."""
    return [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.bin"))]


def _wanted(layout: Layout) -> list[str]:
    """Patterns of what to download, pickled weights apart."""
    weights = [
        f"{part}/{name}".removeprefix("./")
        for part in layout.weighted
        for name in ("*.safetensors", "*.safetensors.index.json")
    ]
    return [*layout.configs, *weights, *layout.others]


def _fault(files: list[Path]) -> str:
    """What is wrong with the weight files of one part; empty when nothing is."""
    for file in files:
        numbered = re.search(r"-\d+-of-(\d+)\.", file.name)
        if numbered and sum(f"-of-{numbered[1]}." in other.name for other in files) < int(numbered[1]):
            return f"{file.name} is there without the {numbered[1]} files of its set"
        if file.suffix != ".safetensors":
            continue
        try:
            with safe_open(file, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{file.name}: {one_line(error)}"
    return ""


def _read_json(path: Path, layout: Layout) -> dict[str, Any]:
    """Read one config of the layout, or say which part of it is missing."""
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        remedy = f"give {layout.kind}"
        if path.parent.name == "refiner":
            remedy = (
                "Track4Gen's features come from its refiner; set features.diffusion.refiner=false without"
            )
        raise WeightsError(f"{layout.setting}: {path} is missing; {remedy}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{layout.setting}: {path} cannot be read as a config ({one_line(error)}); fetch it again"
        ) from error
    if not isinstance(parsed, dict):
        raise WeightsError(f"{layout.setting}: {path} is not a config; give {layout.kind}")
    return parsed


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without the progress bars of transformers and the hub, which are switched for the whole program."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    shown, hub_shown = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
        if hub_shown:
            enable_progress_bars()
