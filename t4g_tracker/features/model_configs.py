"""Reading the JSON configs of published models, whose values may be anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t4g_tracker.errors import WeightsError, one_line
from t4g_tracker.features.layouts import Layout

UNET_WIDTHS = (320, 640, 1280, 1280)  # the default of both UNet classes, for configs without widths
LARGEST, MOST_LAYERS = 10**6, 1000  # of a network's sizes, and of its layers


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


def block_channels(unet: dict[str, Any], folder: Path, kind: str, block: int, stage: str) -> int:
    """Find the channels of one up-block of a UNet from its config.

    Args:
        unet: The parsed config.
        folder: Its folder, for error messages.
        kind: Name of the class that it must be.
        block: Index of the up-block.
        stage: The settings in use, such as "features.diffusion".

    Raises:
        WeightsError: If it is another kind of network, or lacks the block.
    """
    if unet.get("_class_name") != kind:
        raise WeightsError(
            f"{stage}.model: {folder} is a {unet.get('_class_name')}, not a {kind};"
            f" give a model that fits features.extractor"
        )
    widths = unet.get("block_out_channels", UNET_WIDTHS)
    if not isinstance(widths, list | tuple) or not all(_is_whole(width) for width in widths):
        raise WeightsError(
            f"{stage}.model: {folder}: block_out_channels of its config.json must be a list of whole numbers,"
            f" got {one_line(repr(widths))}; download it again"
        )
    if block >= len(widths):
        raise WeightsError(
            f"{stage}.model: {folder} has up-blocks 0 to {len(widths) - 1};"
            f" set {stage}.block to one of them, not {block}"
        )
    channels: int = widths[-1 - block]
    return channels


def whole_number(config: dict[str, Any], name: str, default: int, file: Path, setting: str) -> int:
    """Read a whole number, at least 1, from a config.

    Raises:
        WeightsError: If it is anything else.
    """
    value = config.get(name, default)
    if not _is_whole(value):
        raise WeightsError(
            f"{setting}: {file}: {name} must be a whole number from 1, got {one_line(repr(value))};"
            f" download it again"
        )
    return int(value)


def positive_number(config: dict[str, Any], name: str, default: float, file: Path, setting: str) -> float:
    """Read a number above 0 from a config.

    Raises:
        WeightsError: If it is anything else.
    """
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LARGEST:
        raise WeightsError(
            f"{setting}: {file}: {name} must be a number above 0, got {one_line(repr(value))};"
            f" download it again"
        )
    return float(value)


def _is_whole(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LARGEST


def check_counts(config: dict[str, Any], folder: Path, layout: Layout) -> None:
    """Refuse a network of so many layers that making it would fill the memory before a weight is read."""
    for name, value in config.items():
        counts = value if isinstance(value, list) else [value]
        if "layers" in name and any(type(count) is int and count > MOST_LAYERS for count in counts):
            raise WeightsError(
                f"{layout.setting}: {folder}: {name} of its config.json is {one_line(repr(value))}, more than"
                f" {MOST_LAYERS}; download it again"
            )
