"""Reading the values of a mask's file: palette indexes, grey values or colours, with what is transparent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from t4g_tracker.errors import DAMAGED_ARRAYS, QueryError
from t4g_tracker.inputs.images import deep_values, opened_image, refuse_special_file

MASK_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".avif", ".npy")

_REMEDY = "save the mask as png"


@dataclass(frozen=True)
class MaskValues:
    """What a mask's file holds."""

    values: np.ndarray  # (H, W) indexes, identities or grey values, or (H, W, 3) colours; 0 is outside
    hidden: np.ndarray | None  # (H, W) bool, true where it is more transparent than not
    lossy: bool  # values are blurred by compression
    palette: np.ndarray | None  # (P, 3) colours, if values are its indexes


def read_mask_values(path: Path) -> MaskValues:
    """Read an image of a mask, upright, or an array (H, W) of bool or whole numbers from a npy file.

    Raises:
        QueryError: If the file is missing, damaged, not of these kinds, or holds several pictures.
    """
    refuse_special_file(path, QueryError, "give an image of the mask")
    if not path.exists():
        raise QueryError(f"{path}: no such file; give an image of the mask")
    if path.suffix.lower() in (".npy", ".npz"):
        return MaskValues(_read_array(path), None, False, None)
    with opened_image(path, QueryError, _REMEDY) as opened:
        if opened.format not in ("JPEG", "MPO") and getattr(opened, "n_frames", 1) > 1:
            raise QueryError(f"{path}: holds {opened.n_frames} pictures; a mask is one")  # type: ignore[attr-defined]
        lossy = _is_lossy(opened, path)
        deep = deep_values(opened, path, QueryError)
        if deep is not None:
            return _without_alpha(deep, lossy)
        image = ImageOps.exif_transpose(opened)
        if image.mode == "P" and opened.format != "GIF":  # programs that write GIF number colours anew
            return _of_palette(image, lossy)
        if image.mode not in ("1", "L", "LA", "RGB", "RGBA") or "transparency" in image.info:
            image = image.convert("RGBA" if "transparency" in image.info or "A" in image.mode else "RGB")
        return _without_alpha(np.asarray(image), lossy)


def _read_array(path: Path) -> np.ndarray:
    """Read (H, W) whole numbers or bool; sides of length 1 beside these may be there."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped, since its size is still unchecked
    except DAMAGED_ARRAYS as error:
        raise QueryError(f"{path}: is not an array that can be read; {_REMEDY}") from error
    if not isinstance(stored, np.ndarray):
        raise QueryError(f"{path}: holds several arrays; save the mask alone, as npy or png")
    array = stored.squeeze()
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise QueryError(f"{path}: is {array.dtype} {array.shape}; a mask is (H, W) of bool or whole numbers")
    return array


def _of_palette(image: Image.Image, lossy: bool) -> MaskValues:
    indexes = np.asarray(image)
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    transparency = image.info.get("transparency")
    if isinstance(transparency, int):
        return MaskValues(indexes, indexes == transparency, lossy, colours)
    if transparency is None:
        return MaskValues(indexes, None, lossy, colours)
    alpha = np.full(256, 255, np.uint8)
    alpha[: len(transparency)] = np.frombuffer(transparency, np.uint8)
    return MaskValues(indexes, _hidden(alpha[indexes]), lossy, colours)


def _without_alpha(values: np.ndarray, lossy: bool) -> MaskValues:
    """Separate grey or colour from alpha, and take colours that are all grey for grey."""
    hidden = None
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values, hidden = values[..., :-1], _hidden(values[..., -1])
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if (
        values.ndim == 3 and values.dtype != np.uint8
    ):  # colours keep 8 bits; what is not zero must not become so
        values = (values if values.max() < 256 else values // 257 + (values % 257 > 0)).astype(np.uint8)
    return MaskValues(values, hidden, lossy, None)


def _hidden(alpha: np.ndarray) -> np.ndarray:
    """Where alpha (H, W) is below half of its largest value; everywhere, if that is 0."""
    return alpha < max(1, alpha.max() / 2)


def _is_lossy(opened: Image.Image, path: Path) -> bool:
    """Whether the file's compression changes values."""
    if opened.format == "WEBP":
        return not _is_lossless_webp(path)
    if opened.format == "TIFF":
        return opened.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    return opened.format in ("JPEG", "MPO", "AVIF")


def _is_lossless_webp(path: Path) -> bool:
    """Look for the chunk of a lossless picture, VP8L, among the chunks of a WebP file (RFC 9649)."""
    with path.open("rb") as file:
        file.seek(12)  # RIFF, size, WEBP
        while len(head := file.read(8)) == 8:
            if head[:4] in (b"VP8L", b"VP8 "):
                return head[:4] == b"VP8L"
            size = int.from_bytes(head[4:], "little")
            file.seek(size + size % 2, 1)
    return False
