"""Reading the JSON configs of published models, whose values may be anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t4g_tracker.errors import WeightsError, described, one_line
from t4g_tracker.features.layouts import Layout
from t4g_tracker.limits import check_number

UNET_WIDTHS = (320, 640, 1280, 1280)  # the default of both UNet classes, for configs without widths
LARGEST, MOST_LAYERS = 10**6, 1000  # of a network's sizes, and of its layers
POSITIVE = (1e-9, LARGEST)


def read_json(path: Path, layout: Layout) -> dict[str, Any]:
    """Read one config of the layout; raise WeightsError if it is missing or damaged."""
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        remedy = f"give {layout.kind}"
        if path.parent.name == "refiner":
            remedy = "add Track4Gen's refiner, or set features.diffusion.refiner=false to do without"
        raise WeightsError(f"{layout.setting}: {path} is missing; {remedy}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{layout.setting}: {path} cannot be read as a config ({one_line(error)}); download it again"
        ) from error
    if not isinstance(parsed, dict):
        raise WeightsError(f"{layout.setting}: {path} is not a config; give {layout.kind}")
    return parsed


def block_channels(unet: dict[str, Any], folder: Path, kind: str, block: int, setting: str) -> int:
    """Find the channels of one up-block of a UNet from its config.

    Args:
        unet: The parsed config.
        folder: Its folder, for error messages.
        kind: Name of the class that it must be.
        block: Index of the up-block.
        setting: What names the model, such as "features.diffusion.model".

    Raises:
        WeightsError: If it is another kind of network, or lacks the block.
    """
    if unet.get("_class_name") != kind:
        raise WeightsError(
            f"{setting}: {folder} is a {unet.get('_class_name')}, not a {kind};"
            f" give a model that fits features.extractor"
        )
    widths = unet.get("block_out_channels", UNET_WIDTHS)
    file = folder / "config.json"
    if not isinstance(widths, list | tuple):
        raise WeightsError(
            f"{setting}: {file}: block_out_channels must be a list, got {described(widths)}; download it "
            f"again"
        )
    for width in widths:
        config_number({"block_out_channels": width}, "block_out_channels", 1, file, setting)
    if block >= len(widths):
        raise WeightsError(
            f"{setting}: {folder} has up-blocks 0 to {len(widths) - 1};"
            f" set {setting.removesuffix('.model')}.block to one of them, not {block}"
        )
    channels: int = widths[-1 - block]
    return channels


def config_number(
    config: dict[str, Any],
    name: str,
    default: float,
    file: Path,
    setting: str,
    limits: tuple[float, float] = (1, LARGEST),
) -> Any:
    """Read a number within limits from a config, a whole one if ``default`` is.

    Raises:
        WeightsError: If it is anything else.
    """
    value, whole = config.get(name, default), isinstance(default, int)
    check_number(f"{setting}: {file}: {name}", value, *limits, whole, WeightsError, "download it again")
    return value


def check_counts(config: dict[str, Any], file: Path, setting: str) -> None:
    """Refuse a network of so many layers that making it would fill the memory before a weight is read.

    Raises:
        WeightsError: Names the number.
    """
    for name, value in config.items():
        counts = value if isinstance(value, list) else [value]
        for count in (count for count in counts if "layers" in name and type(count) is int):
            config_number({name: count}, name, 1, file, setting, (-MOST_LAYERS, MOST_LAYERS))
