"""Finding, downloading, checking and strictly loading a folder of published weights of any model."""

from __future__ import annotations

import errno
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
from t4g_tracker.features.model_configs import check_counts, read_json
from t4g_tracker.weight_loading import loading

log = logging.getLogger(__name__)

NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}


def find_folder(model: str, layout: Layout) -> Path:
    """Return the folder that ``model`` names; a hub name that is not cached yet is downloaded.

    Args:
        model: Path of a folder, or a model hub name such as "owner/name".
        layout: The files that the folder must hold.

    Raises:
        WeightsError: If the folder is missing, or the hub cannot be reached or refuses.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.count("/") != 1 or model.startswith((".", "~")):
        raise WeightsError(f"{layout.setting}: {model}: no such folder; give {layout.kind} or a hub name")
    return cached_folder(model, layout) or download(model, layout)


def cached_folder(model: str, layout: Layout) -> Path | None:
    """Find the folder that a hub name was downloaded to, if it is complete; never uses the network."""
    try:
        folder = Path(snapshot_download(model, local_files_only=True, allow_patterns=_patterns(layout)))
    except (OSError, ValueError):
        return None
    return folder if is_complete(folder, layout) else None


def cache_place(model: str) -> Path:
    """Where the hub's cache puts a model, downloaded or not."""
    return Path(HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"


def download(model: str, layout: Layout) -> Path:
    """Download the parts of a hub model, resuming an earlier download.

    Pickled weights (.bin) are downloaded only for parts that are not published as safetensors,
    such as those of ZeroScope.

    Returns:
        The folder in the hub's cache.

    Raises:
        WeightsError: If the hub cannot be reached or refuses, or the cache cannot be written.
    """
    log.info("downloading %s from the model hub; t4g weights list shows its size and licence", model)
    try:
        folder = Path(
            snapshot_download(model, allow_patterns=_patterns(layout), ignore_patterns=["*.fp16.*"])
        )
        pickled = [f"{part}/*.bin" for part in layout.weighted if not weight_files(folder / part)]
        if pickled:
            patterns = [pattern.removeprefix("./") for pattern in pickled]
            snapshot_download(model, allow_patterns=patterns, ignore_patterns=["*.fp16.*"])
    except GatedRepoError as error:
        raise WeightsError(
            f"{layout.setting}: {model} requires you to accept its licence; do so on its hub page, run"
            f" `hf auth login`, and start again"
        ) from error
    except Exception as error:  # the hub's HTTP library, and so its errors, differ by version
        if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
            raise WeightsError(
                f"{cache_place(model)}: {model} cannot be written there ({one_line(error)}); free some space,"
                f" or set HF_HOME to another folder"
            ) from error
        raise WeightsError(
            f"{layout.setting}: {model} is not a folder, and the model hub cannot be reached or does not"
            f" have it ({one_line(error)}); on a connected machine run"
            f" hf download {model} --local-dir FOLDER, copy the folder here, and set"
            f" {layout.setting}=FOLDER"
        ) from error
    return folder


def read_configs(folder: Path, layout: Layout) -> dict[str, dict[str, Any]]:
    """Read every config of a folder, and check that the weights beside them are whole.

    Weights are not loaded: a safetensors file records its own length, and the names of a set of
    files their number.

    Returns:
        The parsed configs by their paths in ``layout``.

    Raises:
        WeightsError: Names the part that is missing or cut short.
    """
    configs = {name: read_json(folder / name, layout) for name in layout.configs}
    for part in layout.weighted:
        name = f"{part}/config.json".removeprefix("./")
        check_counts(configs[name], folder / name, layout.setting)
        files = weight_files(folder / part)
        if not files:
            raise WeightsError(
                f"{layout.setting}: {folder / part} holds no .safetensors or .bin; give {layout.kind}"
            )
        fault = _fault(files)
        if fault:
            raise WeightsError(
                f"{layout.setting}: {folder / part} cannot be loaded ({fault}); download it again"
            )
    return configs


def is_complete(folder: Path, layout: Layout) -> bool:
    """Whether every part is there and whole, as far as is known without loading it."""
    try:
        read_configs(folder, layout)
    except WeightsError:
        return False
    return True


def load_strictly(
    kind: Any, folder: Path, part: str, setting: str, *, unused: tuple[str, ...] = (), **options: Any
) -> Any:
    """Call ``from_pretrained``, and refuse weights that are missing, left over or of the wrong shape.

    Args:
        kind: A model class of diffusers or transformers.
        folder: The folder of the whole model; only local files are read.
        part: Its subfolder, or "." for the folder itself.
        setting: The setting that names the folder, for error messages.
        unused: Beginnings of the names of weights that the file may hold beside the model's.
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
    # without bars, which would flash up between the program's own
    with loading(f"{setting}: {folder / part}", "download it again"), _no_bars():
        model, report = kind.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **options
        )
    for fault in ("missing", "unexpected", "mismatched"):
        # older CLIP checkpoints contain their constant position_ids
        names = sorted(str(key) for key in report[f"{fault}_keys"] if "position_ids" not in str(key))
        if fault == "unexpected":
            names = [name for name in names if not name.startswith(unused)]
        if names:
            raise WeightsError(
                f"{setting}: {folder / part} does not fit its config.json: {len(names)} {fault} weights,"
                f" the first is {names[0]}; download both again"
            )
    return model.eval().requires_grad_(False)


def load_settings(kind: Any, folder: Path, part: str, setting: str) -> Any:
    """Call ``from_pretrained`` of a part without weights: a scheduler or an image processor.

    Raises:
        WeightsError: If it cannot be read or its settings make no sense.
    """
    with loading(f"{setting}: {folder / part}", "download it again"):
        return kind.from_pretrained(folder, subfolder=part, local_files_only=True)


def weight_files(folder: Path) -> list[Path]:
    """List the files of weights directly in a folder, safetensors before pickled ones."""
    return [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.bin"))]


def _patterns(layout: Layout) -> list[str]:
    """List the patterns of files to download, except pickled weights."""
    weights = [
        f"{part}/{name}".removeprefix("./")
        for part in layout.weighted
        for name in ("*.safetensors", "*.safetensors.index.json")
    ]
    return [*layout.configs, *weights, *layout.others]


def _fault(files: list[Path]) -> str:
    """Describe what is wrong with the weight files of one part; empty if nothing is."""
    for file in files:
        numbered = re.search(r"-\d+-of-(\d+)\.", file.name)
        if numbered and sum(f"-of-{numbered[1]}." in other.name for other in files) < int(numbered[1]):
            return f"{file.name} is one of {numbered[1]} files, but not all are there"
        if file.suffix != ".safetensors":
            continue
        try:
            with safe_open(file, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{file.name}: {one_line(error)}"
    return ""


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the progress bars of transformers and the hub, whose switches are global, and restore them."""
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
