"""Reading the values of a mask's file: palette indexes, grey values or colours, with what is transparent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from t4g_tracker.errors import QueryError
from t4g_tracker.inputs.array_files import ArrayFile
from t4g_tracker.inputs.images import deep_values, opened_image
from t4g_tracker.inputs.input_files import open_input, refuse_special

MASK_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".avif", ".npy")

_REMEDY = "save the mask as png"
_MOST_BYTES = 2**30  # of an array
_FEW_VALUES = 8  # with more, there may be soft edges


@dataclass(frozen=True)
class MaskValues:
    """What a mask's file holds."""

    values: np.ndarray  # (H, W) indexes, identities or grey values, or (H, W, 3) colours; 0 is outside
    hidden: np.ndarray | None  # (H, W) bool, true where it is more transparent than not
    lossy: bool  # values are blurred by compression
    palette: np.ndarray | None = None  # (256, 3) colours, if values are its indexes
    soft: bool = False  # values are probabilities, cut at a half


def read_mask_values(path: Path) -> MaskValues:
    """Read an image of a mask, upright, or an array (H, W), as for ``values_of_array``, from a npy file.

    Raises:
        QueryError: If the file is missing, damaged, not of these kinds, or holds several pictures.
    """
    refuse_special(path, QueryError, "give an image of the mask")
    if not path.exists():
        raise QueryError(f"{path}: no such file; give an image of the mask")
    if path.suffix.lower() in (".npy", ".npz"):
        return _read_array(path)
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


def _read_array(path: Path) -> MaskValues:
    """Read (H, W) numbers; sides of length 1 beside these may be there."""
    with open_input(path, 2 * _MOST_BYTES, QueryError, "an image of the mask") as file:
        try:
            arrays = ArrayFile(file, _MOST_BYTES)
            if arrays.names != [""]:
                raise QueryError("holds several arrays; save the mask alone, as npy or png")
            shape, dtype = arrays.header("").shape, arrays.header("").dtype
            if len(shape) < 2 or len([side for side in shape if side != 1]) > 2 or dtype.kind not in "buif":
                raise QueryError(f"is {dtype} {shape}; a mask is (H, W) of bool or whole numbers")
            values, soft = values_of_array(arrays.read(""))
        except QueryError as error:
            raise QueryError(f"{path}: {error}") from None
    while values.ndim > 2:
        values = values.squeeze(values.shape.index(1))
    return MaskValues(values, None, False, soft=soft)


def values_of_array(array: np.ndarray) -> tuple[np.ndarray, bool]:
    """Check the numbers of a mask in an array: 0 is outside; of fractions, at least a half is inside.

    Returns:
        The array, as bool or whole numbers from 0; and whether its numbers were fractions.

    Raises:
        QueryError: If numbers are not finite, negative, or fractions above 1.
    """
    if array.dtype.kind == "b":
        return array, False
    if not np.isfinite(array).all() or (array < 0).any():
        raise QueryError("has values below 0 or not finite; a mask has 0 outside, and True or 1 inside")
    if array.dtype.kind != "f":
        return array, False
    if (array == np.floor(array)).all() and float(array.max(initial=0)) < 2**62:
        return array.astype(np.int64), False
    if (array > 1).any():
        raise QueryError("has fractions above 1; a mask is bool, whole numbers, or probabilities in 0..1")
    return array >= 0.5, True


def _of_palette(image: Image.Image, lossy: bool) -> MaskValues:
    """Take a palette's indexes where they name objects, else its colours."""
    indexes = np.asarray(image)
    colours = np.zeros((256, 3), np.uint8)  # a file may leave out the last ones
    given = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colours[: len(given)] = given
    alpha = np.full(256, 255, np.uint8)
    transparency = image.info.get("transparency", b"")
    if isinstance(transparency, int):
        alpha[transparency] = 0
    else:
        alpha[: len(transparency)] = np.frombuffer(transparency, np.uint8)
    black = (colours == 0).all(axis=1)
    # Programs that reduce colours number them as they like.
    by_index = (black[0] or not black[indexes].any()) and not has_soft_edges(indexes)
    if not by_index:
        return _without_alpha(np.dstack([colours[indexes], alpha[indexes]]), lossy)
    hidden = None if alpha.min() == 255 else _hidden(alpha[indexes])
    return MaskValues(indexes, hidden, lossy, colours)


def has_soft_edges(codes: np.ndarray) -> bool:
    """Whether there are many values, most of which nowhere fill 3x3 pixels."""
    present = np.unique(codes[codes != 0])
    if len(present) <= _FEW_VALUES:
        return False
    middle = codes[1:-1, 1:-1]
    flat = np.ones(middle.shape, bool)
    for y in range(3):
        for x in range(3):
            flat &= middle == codes[y : y + middle.shape[0], x : x + middle.shape[1]]
    return len(np.unique(middle[flat & (middle != 0)])) < len(present) / 2


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
    return MaskValues(values, hidden, lossy)


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
