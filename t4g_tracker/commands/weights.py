"""``t4g weights``: list the models to choose from, their sizes and licences, and download them.

Sizes are those of the downloaded files: as the model hub lists them, or the number of weights times
their bytes (SVD float32, ZeroScope float16, DINOv2, DINO and CLIP float32), or torchvision's own figures.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from t4g_tracker.bundled import GENERATING_MINI, RAFT_MINI, TRACK4GEN_MINI, find_bundled
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser
from t4g_tracker.commands.printing import say
from t4g_tracker.errors import WeightsError, one_line
from t4g_tracker.features.layouts import CLIP, DINO, DINOV2, SVD, TRACK4GEN, ZEROSCOPE, Layout
from t4g_tracker.features.settings import (
    CLIP_LARGE_MODEL,
    CLIP_MODEL,
    SVD_MODEL,
    DinoConfig,
    Dinov2Config,
    ZeroscopeConfig,
)

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

    from t4g_tracker.choices import LpipsBackbone
    from t4g_tracker.flow.raft import Variant

OWN = "Apache-2.0, like this program"
RAFT_LICENCE = (
    "BSD-3-Clause (torchvision's code); weights trained on research data sets with terms of their own"
)
CLIP_LICENCE = "MIT (OpenAI's repository; its model card advises against deployment without testing)"
LPIPS_LICENCE = (
    "BSD-3-Clause (torchvision's code); weights trained on ImageNet, which has terms of its own; the linear"
    " layers, in torchmetrics, are BSD-2-Clause"
)


@dataclass(frozen=True)
class Model:
    """One model that a user can choose. A function where finding out takes a large library."""

    name: str
    use: str  # its purpose, and the setting that chooses it
    size: Callable[[], str]  # of the download, or on disk if there is none
    licence: str
    place: Callable[[], Path | None]  # where it is, or will be after a download; None: the user chooses
    complete: Callable[[], bool]  # whether all of it is on disk; never uses the network
    fetch: Callable[[], Path]  # return its place, after a download if needed, or raise a WeightsError
    downloaded: bool = False  # whether ``fetch`` uses the network


def models() -> tuple[Model, ...]:
    """List every model that the program can use, the bundled ones first."""
    return (
        _bundled(
            "track4gen-mini",
            "a small Track4Gen: features.extractor=track4gen-mini",
            TRACK4GEN_MINI,
            lambda: _is_complete(TRACK4GEN_MINI, TRACK4GEN),
        ),
        _bundled(
            "generating-mini",
            "a small Track4Gen that generates: t4g generate",
            GENERATING_MINI,
            lambda: _is_complete(GENERATING_MINI, TRACK4GEN),
        ),
        _bundled(
            "raft-mini",
            "a small RAFT: flow.method=raft-mini flow.raft_scale=0.5 flow.refine=best",
            RAFT_MINI,
            lambda: _is_safetensors(RAFT_MINI),
        ),
        _on_the_hub(
            "svd",
            "Stable Video Diffusion features: features.extractor=svd; the start of t4g train-track4gen",
            "about 9.0 GB",
            "Stability AI Community License",
            SVD_MODEL,
            SVD,
        ),
        Model(
            "track4gen",
            "Track4Gen features from weights of your own: features.extractor=track4gen",
            lambda: "not published",
            "Stability AI Community License if trained from Stable Video Diffusion",
            lambda: None,
            lambda: False,
            _no_track4gen,
        ),
        _on_the_hub(
            "zeroscope",
            "features of a text-to-video model: features.extractor=zeroscope",
            "about 3.7 GB",
            "CC-BY-NC-4.0: not for commercial use",
            ZeroscopeConfig().model,
            ZEROSCOPE,
        ),
        _on_the_hub(
            "dinov2",
            "features of an image model: features.extractor=dinov2",
            "about 350 MB",
            "Apache-2.0",
            Dinov2Config().model,
            DINOV2,
        ),
        _on_the_hub(
            "dino",
            "features of an image model: features.extractor=dino",
            "about 87 MB",
            "Apache-2.0",
            DinoConfig().model,
            DINO,
        ),
        _raft("raft-small"),
        _raft("raft-large"),
        _on_the_hub(
            "clip",
            "CLIPSIM: t4g video-metrics; the smaller CLIP",
            "about 610 MB",
            CLIP_LICENCE,
            CLIP_MODEL,
            CLIP,
        ),
        _on_the_hub(
            "clip-large",
            f"CLIPSIM: t4g video-metrics --clip {CLIP_LARGE_MODEL}",
            "about 1.7 GB",
            CLIP_LICENCE,
            CLIP_LARGE_MODEL,
            CLIP,
        ),
        _lpips("alex"),
        _lpips("vgg"),
        _lpips("squeeze"),
    )


def describe(model: Model) -> list[str]:
    """Write the lines of ``t4g weights list`` about one model."""
    place = model.place()
    if model.complete():
        state = "complete"
    elif place is not None and place.exists():
        state = f"incomplete; run t4g weights get {model.name}"
    else:
        state = "missing"
    rows = {
        "for": model.use,
        "size": model.size(),
        "licence": model.licence,
        "place": str(place or "a folder of your choice: features.diffusion.model=FOLDER"),
        "state": state,
    }
    return [model.name, *(f"  {label:<8} {text}" for label, text in rows.items())]


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    known = {model.name: model for model in models()}
    request = _parse(argv, list(known))
    if request.command == "list":
        say("\n\n".join("\n".join(describe(model)) for model in known.values()))
        return 0
    model = known[request.name]
    if model.complete():
        say(f"{model.name} is already there: {model.place()}")
        return 0
    if model.downloaded:
        say(f"{model.name}: {model.size()}; licence: {model.licence}")
    say(f"{model.name} is in {model.fetch()}")
    return 0


def _parse(argv: list[str] | None, names: list[str]) -> argparse.Namespace:
    parser = Parser(prog="t4g weights", description="List the models to choose from, and download them.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="each model's purpose, size, licence, place and state")
    get = commands.add_parser(
        "get", help="download one model; downloads from the hub resume where they stopped"
    )
    get.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    return parser.parse(argv)


def _bundled(name: str, use: str, path: Path, complete: Callable[[], bool]) -> Model:
    """A bundled model; only the repository can restore it."""

    def fetch() -> Path:
        if not complete() and find_bundled(path):
            raise WeightsError(f"{path}: is incomplete; restore it with `git checkout -- assets/weights`")
        return path

    return Model(name, use, lambda: _bundled_size(path), OWN, lambda: path, complete, fetch)


def _on_the_hub(name: str, use: str, size: str, licence: str, hub_name: str, layout: Layout) -> Model:
    """A model that is downloaded from the Hugging Face hub into its cache."""

    def place() -> Path:
        from t4g_tracker.features.model_files import cache_place, cached_folder

        return cached_folder(hub_name, layout) or cache_place(hub_name)

    def complete() -> bool:
        from t4g_tracker.features.model_files import cached_folder

        return cached_folder(hub_name, layout) is not None

    def fetch() -> Path:
        from t4g_tracker.features.model_files import cache_place, download

        folder = download(hub_name, layout)
        if not _is_complete(folder, layout):
            raise WeightsError(
                f"{folder}: {hub_name} lacks parts of {layout.kind}, or one is cut short; delete"
                f" {cache_place(hub_name)} and download it again"
            )
        return folder

    return Model(name, use, lambda: size, licence, place, complete, fetch, downloaded=True)


def _raft(name: Variant) -> Model:
    """torchvision's published RAFT, stored where ``t4g_tracker.flow.raft`` looks for it."""

    def weights() -> WeightsEnum:
        from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights

        return Raft_Small_Weights.DEFAULT if name == "raft-small" else Raft_Large_Weights.DEFAULT

    def place() -> Path:
        from t4g_tracker.flow.raft import published_file

        return published_file(name)

    return _from_pytorch(name, f"optical flow: flow.method={name}", RAFT_LICENCE, weights, place)


def _lpips(backbone: LpipsBackbone) -> Model:
    """torchvision's published classifier, stored where PyTorch looks for it."""

    def weights() -> WeightsEnum:
        from t4g_tracker.video_metrics.lpips import BACKBONES

        return BACKBONES[backbone]

    def place() -> Path:
        from t4g_tracker.video_metrics.lpips import backbone_file

        return backbone_file(backbone)

    use = f"LPIPS: t4g video-metrics --lpips {backbone}"
    return _from_pytorch(f"lpips-{backbone}", use, LPIPS_LICENCE, weights, place)


def _from_pytorch(
    name: str,
    use: str,
    licence: str,
    weights: Callable[[], WeightsEnum],
    place: Callable[[], Path],
) -> Model:
    """A model that is downloaded from PyTorch's host into its cache."""

    def size() -> str:
        return f"{weights().meta['_file_size'] * 2**20 / 1e6:.1f} MB"

    def digits() -> str:
        match = re.search(r"-([0-9a-f]{8,})\.", weights().url)
        assert match, "PyTorch's file names end in the first digits of their SHA-256"
        return match[1]

    def complete() -> bool:
        file = place()
        return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest().startswith(digits())

    def fetch() -> Path:
        import torch

        url = weights().url
        try:
            place().parent.mkdir(parents=True, exist_ok=True)
            # writes a temporary file, and moves it into place if the hash is right
            torch.hub.download_url_to_file(url, str(place()), hash_prefix=digits(), progress=True)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise WeightsError(
                f"{name}: cannot be downloaded from {url} ({one_line(error)}); download it on a connected "
                f"machine and put it at {place()}"
            ) from error
        return place()

    return Model(name, use, size, licence, place, complete, fetch, downloaded=True)


def _no_track4gen() -> Path:
    raise WeightsError(
        "track4gen: no weights are published; train them with t4g train-track4gen, and give their folder"
        " with --set features.extractor=track4gen features.diffusion.model=FOLDER"
    )


def _bundled_size(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB, bundled" if files else "bundled"


def _is_complete(folder: Path, layout: Layout) -> bool:
    from t4g_tracker.features.model_files import is_complete

    return is_complete(folder, layout)


def _is_safetensors(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError):
        return False
