"""Reading EXR and DPX, the image files of film."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import av
import numpy as np

from t4g_tracker.errors import VideoError
from t4g_tracker.inputs.silence import silent_libraries

FILM_SUFFIXES = (".exr", ".dpx")

_MOST_PIXELS = 2**27
_DPX_TRANSFER = 801  # place of the byte that says how the values of a DPX's first element are meant
_DPX_LOGARITHMIC = (1, 3)  # printing density, logarithmic
_LINEAR_NOTE = (
    "EXR holds scene-linear values; 0 to 1 became 8 bits by the sRGB curve, and what is above is white; "
    "export pngs for another look"
)
_TO_PNG = "ffmpeg -start_number FIRST -i NAME.%04d.{}{} -start_number FIRST NAME.%04d.png"
_LOG_NOTE = "DPX holds logarithmic values, which are taken as they are; export pngs for another look"


def read_film_image(path: Path) -> tuple[np.ndarray, str | None, float]:
    """Read one EXR or DPX file as (H, W, 3) uint8 RGB; a note if its mapping was a choice; its pixel aspect.

    EXR is scene-linear: it gets the sRGB curve. Its picture is the display window, black where there is
    no data. DPX keeps its values.

    Raises:
        VideoError: If the file is damaged or has no colours that can be read.
    """
    if path.suffix.lower() == ".exr":
        linear, pixel_aspect = _read_exr(path)
        return _srgb(linear), _LINEAR_NOTE, pixel_aspect
    return _read_dpx(path)


def _srgb(linear: np.ndarray) -> np.ndarray:
    """Map linear values, 0 to 1, to 8 bits by the sRGB curve of IEC 61966-2-1."""
    linear = np.nan_to_num(linear, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (255 * curved + 0.5).astype(np.uint8)


def _read_exr(path: Path) -> tuple[np.ndarray, float]:
    """Read the display window of an EXR's first colours as (H, W, 3) float32, and the width of its pixels."""
    try:
        from OpenEXR import File  # FFmpeg, which PyAV has, takes EXR files cut short as whole
    except ImportError as error:
        raise VideoError(
            f"{path}: EXR needs OpenEXR, which is not installed; pip install 'openexr>=3.4', or convert the "
            f"frames first: {_TO_PNG.format('exr', ' -vf zscale=tin=linear:t=iec61966-2-1,format=rgb24')}"
        ) from error
    try:
        with silent_libraries():
            headers = [part.header for part in File(str(path), header_only=True).parts]
        found = [_colour_channels([channel.name for channel in header["channels"]]) for header in headers]
        wanted = next((index for index, names in enumerate(found) if names), None)
        for header in headers:
            for window in (header["dataWindow"], header["displayWindow"]):
                _check_size(path, *(window[1] - window[0] + 1))
        if wanted is None:
            names = [channel.name for header in headers for channel in header["channels"]]
            raise VideoError(
                f"{path}: has the channels {', '.join(names)}, and it is not clear which are the picture; "
                "write R, G, B"
            )
        with silent_libraries():
            channels = File(str(path), separate_channels=True).parts[wanted].channels
        values = np.stack([channels[name].pixels for name in found[wanted]], axis=-1)
    except (OSError, ValueError, RuntimeError, TypeError, IndexError, KeyError) as error:
        raise VideoError(f"{path}: is cut short, damaged or no EXR file; render or copy it again") from error
    if values.dtype.kind != "f":
        raise VideoError(f"{path}: holds {values.dtype} values; render it with half or float ones")
    header = headers[wanted]
    pixel_aspect = float(header.get("pixelAspectRatio", 1.0))
    shown = _in_display_window(values.astype(np.float32), header)
    return shown, pixel_aspect if 0 < pixel_aspect < math.inf else 1.0


def _colour_channels(names: list[str]) -> list[str]:
    """Choose the channels of the picture: those without a layer, else those of the one layer that has all."""
    layers = dict.fromkeys(name[: name.rindex(".") + 1] if "." in name else "" for name in names)
    pictures = [colours for layer in layers if set(colours := [f"{layer}{c}" for c in "RGB"]) <= set(names)]
    if ["R", "G", "B"] in pictures:
        return ["R", "G", "B"]
    if "Y" in names:
        return ["Y"] * 3
    return pictures[0] if len(pictures) == 1 else []


def _in_display_window(values: np.ndarray, header: dict[str, Any]) -> np.ndarray:
    """Cut or fill the data window, (H, W, 3), to the display window, with black."""
    (data_from, _), (shown_from, shown_to) = header["dataWindow"], header["displayWindow"]
    width, height = shown_to - shown_from + 1
    shown = np.zeros((height, width, 3), np.float32)
    left, top = data_from - shown_from
    right, bottom = left + values.shape[1], top + values.shape[0]
    y, x = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
    part = shown[y, x]
    part[:] = values[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]
    return shown


def _check_size(path: Path, width: int, height: int) -> None:
    if width < 1 or height < 1 or int(width) * int(height) > _MOST_PIXELS:
        raise VideoError(f"{path}: is {width}x{height} pixels, which cannot be read; make it smaller")


def _read_dpx(path: Path) -> tuple[np.ndarray, str | None, float]:
    """Read a DPX as (H, W, 3) uint8 RGB, of the upper 8 bits of its values; a note and its pixel aspect."""
    try:
        with (  # PyAV prints of seeks that fail
            silent_libraries(),
            path.open("rb") as file,
            av.open(file, format="dpx_pipe") as container,
        ):
            context = container.streams.video[0].codec_context
            _check_size(path, context.width, context.height)
            frame = next(container.decode(video=0))
            bits = frame.format.components[0].bits
            values = frame.to_ndarray() if bits > 8 else frame.to_ndarray(format="rgb24")
            file.seek(_DPX_TRANSFER)
            transfer = file.read(1)
            pixel_aspect = float(context.sample_aspect_ratio or 1)
    except (av.FFmpegError, OSError, ValueError, IndexError, StopIteration) as error:
        raise VideoError(
            f"{path}: is cut short, damaged or a DPX that cannot be read; convert the frames first: "
            f"{_TO_PNG.format('dpx', '')}"
        ) from error
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=-1)
    rgb = (values[..., :3] >> (bits - 8)).astype(np.uint8)
    note = _LOG_NOTE if transfer and transfer[0] in _DPX_LOGARITHMIC else None
    return rgb, note, pixel_aspect
