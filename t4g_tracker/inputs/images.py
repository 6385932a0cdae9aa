"""Reading one image file: its picture as RGB, or its values as they are stored.

Pillow reads what has 8 bits. It cuts colours of 16 bits down to their upper 8, so OpenCV reads these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError

import cv2
import numpy as np
from PIL import Image, ImageOps

from t4g_tracker.errors import TrackerError, VideoError
from t4g_tracker.inputs.film_images import FILM_SUFFIXES, read_film_image
from t4g_tracker.inputs.input_files import refuse_special
from t4g_tracker.inputs.silence import silent_libraries

IMAGE_ERRORS = (  # Pillow's on bad files
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    RuntimeError,
    StructError,
    cv2.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
# Pillow would also start Ghostscript for PostScript, whatever the file is called.
_FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "BMP", "AVIF", "GIF")
_SAVE_IT = "save it with 8 or 16 bits, as grey or RGB"
_PHOTOMETRIC, _PLANES, _BITS = 262, 284, 258  # tags of a TIFF
_WHITE_IS_ZERO, _GREY_OR_RGB = 0, (0, 1, 2)  # PhotometricInterpretation
_SEPARATE = 2  # PlanarConfiguration
_ORIENTATION = 0x0112  # tag of EXIF


@dataclass(frozen=True)
class Picture:
    """One frame of a folder."""

    rgb: np.ndarray  # (H, W, 3) uint8; or uint16, of which only the largest of all says how many bits count
    note: str | None = None  # how values were mapped, if that was a choice
    pixel_aspect: float = 1.0  # width of a pixel over its height, as shown


def read_picture(path: Path) -> Picture:
    """Read the picture of one image file, upright; an alpha channel is dropped.

    Raises:
        VideoError: If the file cannot be read, holds several pictures, or values that are not 8 or 16 bits.
    """
    if path.suffix.lower() in FILM_SUFFIXES:
        return Picture(*read_film_image(path))
    is_tiff = path.suffix.lower() in (".tif", ".tiff")  # of which there are kinds that Pillow does not know
    remedy = f"{_SAVE_IT}, or remove it" if is_tiff else "replace it or remove it from the folder"
    with opened_image(path, VideoError, remedy) as opened:
        pictures = 1 if opened.format in ("JPEG", "MPO") else getattr(opened, "n_frames", 1)
        if pictures > 1:
            raise VideoError(
                f"{path}: holds {pictures} pictures; give the file itself as the video, or one picture a file"
            )
        return Picture(current_rgb(opened, path))


@contextmanager
def opened_image(path: Path, error: type[TrackerError], remedy: str) -> Iterator[Image.Image]:
    """Open an image file with Pillow; what is wrong with it, also while it is read, becomes ``error``.

    What the libraries below print is dropped meanwhile, so read inside, and print nothing.
    """
    refuse_special(path, error, remedy)
    Image.init()
    try:
        formats = [name for name in _FORMATS if name in Image.OPEN]
        with silent_libraries(), Image.open(path, formats=formats) as opened:
            _refuse_bomb(opened)
            yield opened
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as reason:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise error(f"{path}: has more than {limit} million pixels; make it smaller") from reason
    except IMAGE_ERRORS as reason:
        raise error(f"{path}: is not an image that can be read; {remedy}") from reason


def _refuse_bomb(opened: Image.Image) -> None:
    """Raise Pillow's error for a picture so large that it only warns of it."""
    if Image.MAX_IMAGE_PIXELS is not None and opened.width * opened.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError


def current_rgb(opened: Image.Image, path: Path, page: int = 0) -> np.ndarray:
    """Read the picture that an open image is at, upright, as (H, W, 3) uint8, or uint16 if it has more bits.

    Args:
        opened: From ``opened_image``.
        path: Its file.
        page: Number of the picture in the file.

    Raises:
        VideoError: If its values are not 8 or 16 bits.
        IMAGE_ERRORS: As Pillow reads.
    """
    _refuse_bomb(opened)  # each page of a TIFF has a size
    values = deep_values(opened, path, VideoError, page)
    if values is not None:
        return values[..., :3] if values.ndim == 3 else np.repeat(values[..., None], 3, axis=-1)
    image = ImageOps.exif_transpose(opened)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def deep_values(
    opened: Image.Image, path: Path, error: type[TrackerError], page: int = 0
) -> np.ndarray | None:
    """Read the values of an image with more than 8 bits a channel.

    Returns:
        (H, W) or (H, W, C) uint16, upright, in the order R, G, B, alpha; None if it has 8 bits or fewer.

    Raises:
        TrackerError: ``error``, if the values are not whole numbers of 16 bits, grey or RGB.
    """
    if not _is_deep(opened, path):
        return None
    if opened.format == "TIFF":
        values = _tiff_values(opened, path, error, page)
    else:
        opened.load()  # raises if the file is cut short, where OpenCV would print
        values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        kind = "values that cannot be read" if values is None else f"{values.dtype} values"
        raise error(f"{path}: holds {kind}; {_SAVE_IT}")
    if values.ndim == 3:  # OpenCV's order is B, G, R, alpha
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    if opened.format == "PNG":  # OpenCV has turned a TIFF
        values = _upright(values, opened.getexif().get(_ORIENTATION, 1))
    return values


def _tiff_values(opened: Image.Image, path: Path, error: type[TrackerError], page: int) -> np.ndarray | None:
    """Read a page of a TIFF with OpenCV, which looks neither at planes nor at what white is."""
    tags = opened.tag_v2  # type: ignore[attr-defined]
    photometric = tags.get(_PHOTOMETRIC)
    if photometric not in _GREY_OR_RGB:
        raise error(f"{path}: holds neither grey nor RGB values; {_SAVE_IT}")
    if tags.get(_PLANES) == _SEPARATE and len(tags.get(_BITS, ())) > 1:
        raise error(f"{path}: holds each colour in a plane of its own; save it interleaved, or with 8 bits")
    opened.load()  # as above
    found, pages = cv2.imreadmulti(str(path), start=page, count=1, flags=cv2.IMREAD_UNCHANGED)
    if not found or photometric != _WHITE_IS_ZERO or pages[0].dtype != np.uint16:
        return pages[0] if found else None
    if pages[0].ndim > 2 or tags[_BITS] != (16,):
        raise error(f"{path}: holds grey values of which 0 is white; {_SAVE_IT}, where 0 is black")
    return 65535 - pages[0]


def _is_deep(opened: Image.Image, path: Path) -> bool:
    if opened.format == "TIFF":
        return max(opened.tag_v2.get(_BITS, (1,))) > 8  # type: ignore[attr-defined]
    if opened.format != "PNG":
        return False
    with path.open("rb") as file:
        file.seek(24)  # the bit depth in the first chunk
        return file.read(1) == b"\x10"


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror (H, W, ...) values as EXIF's orientation, 1 to 8, says."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values
