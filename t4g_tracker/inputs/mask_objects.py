"""Which objects a mask shows, and which pixels belong to each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from t4g_tracker.inputs.mask_files import MaskValues, has_soft_edges

Name = int | tuple[int, int, int]  # what a user calls an object: its number, or R, G, B

VOID = 255  # a palette's index for what nobody annotated, in PASCAL VOC and DAVIS
_WHITE = (255, 255, 255)

_NEAR = 24.0  # distance of colours, of 255 a channel, that are one but for lossy compression
_FLAT_LOSSY, _FLAT_SOFT = 12, 4  # change over 3x3 pixels up to which they are inside one object
_FEWEST_FLAT = 16  # places where an object of a lossy or soft mask has to be so
_DARKEST_LOSSY = 32  # lossy compression leaves as much in black
_LEAST_PURE = 0.25  # of a soft mask; a slow ramp to white has flat places, but no colour of its own
_EVEN = 8.0  # distance of colours up to which most of an object is from its own; of a photograph, less is
_MOST_OBJECTS = 64  # of a lossy or soft mask
_LISTED = 8


def parsed_name(text: str) -> Name:
    """Parse the name of an object: a number from 1, or its colour as R,G,B.

    Raises:
        ValueError: If it is neither.
    """
    parts = text.split(",")
    if len(parts) in (1, 3) and all(re.fullmatch(r"\d{1,9}", part.strip(), re.ASCII) for part in parts):
        numbers = [int(part) for part in parts]
        if len(numbers) == 1 and numbers[0] > 0:
            return numbers[0]
        if len(numbers) == 3 and max(numbers) < 256:
            return numbers[0], numbers[1], numbers[2]
    raise ValueError(f"must be a number from 1, or a colour as R,G,B of 0 to 255, got {text}")


def written_name(name: Name | None) -> str:
    """Write the name of an object as ``parsed_name`` reads it."""
    return ",".join(map(str, name)) if isinstance(name, tuple) else str(name)


@dataclass(frozen=True)
class MaskObject:
    """One object of a mask, by its number or colour."""

    number: int | None  # palette index, grey value, or index of the colour in the palette of DAVIS
    colour: tuple[int, int, int] | None = None  # R, G, B in 0..255; None for grey

    def __str__(self) -> str:
        if self.colour is None:
            return str(self.number)
        text = written_name(self.colour)
        return text if self.number is None else f"{self.number} ({text})"

    def is_called(self, name: Name, tolerance: float) -> bool:
        """Whether ``name`` means this object; a colour or grey value may be off by ``tolerance``."""
        if isinstance(name, int) and self.colour is not None:
            return self.number == name
        own = np.array(self.number if self.colour is None else self.colour)
        return bool(np.abs(own - name).max() <= tolerance)

    def is_like(self, other: MaskObject, tolerance: float) -> bool:
        """Whether both are one object, give or take ``tolerance``."""
        name = other.number if other.colour is None else other.colour
        return self == other or (name is not None and self.is_called(name, tolerance))


@dataclass(frozen=True)
class LabelledMask:
    """Which object each pixel of a mask belongs to."""

    labels: np.ndarray  # (H, W) int, 0 outside, k + 1 in objects[k]
    objects: tuple[MaskObject, ...]
    tolerance: float = 0.0  # by how much the colours of objects may be off
    soft: bool = False  # has edges of in-between values, although compression did not make them
    palette: np.ndarray | None = None  # (P, 3) colours, if objects are its indexes

    @property
    def void(self) -> bool:
        """Whether one of several indexes is that of what nobody annotated; white is an object."""
        if self.palette is None or len(self.objects) < 2:
            return False
        return any(has.number == VOID and has.colour != _WHITE for has in self.objects)

    def inside(self, name: Name | None) -> np.ndarray:
        """(H, W) bool of the object of that name, or of all but void."""
        if name is None:
            wanted = [not (self.void and has.number == VOID) for has in self.objects]
        else:
            wanted = [has.is_called(name, self.tolerance) for has in self.objects]
        return np.array([False, *wanted])[self.labels]


def distinct(masks: Iterable[LabelledMask]) -> list[MaskObject]:
    """List the objects of many masks, each once; void is none."""
    found: list[MaskObject] = []
    for mask in masks:
        for has in mask.objects:
            known = any(other.is_like(has, mask.tolerance) for other in found)
            if not known and not (mask.void and has.number == VOID):
                found.append(has)
    return found


def listed(objects: Iterable[MaskObject]) -> str:
    """Write objects for a message, but not all of very many."""
    ordered = sorted(objects, key=lambda has: (has.number is None, has.number or 0, has.colour or ()))
    texts = list(map(str, ordered))
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more


def label_objects(mask: MaskValues) -> LabelledMask:
    """Tell the objects of a mask apart.

    In a palette image every index is an object. Grey values that are nearly black or nearly the
    brightest, but for edges, are one object. In other images every value or colour is one, unless the
    file is lossy or has soft edges: objects are then the colours that fill 3x3 pixels somewhere, and
    each pixel belongs to the nearest of them or to black. Of a grey matte, such as a map of
    probabilities, at least half of the largest value is one object. Where transparency cuts a shape out
    of a photograph or out of black, the shape is the object.

    Raises:
        ValueError: If the colours are those of a photograph, or compression may have hidden the objects.
    """
    if mask.hidden is None or not mask.hidden.any():
        return _label_values(mask)
    shape = LabelledMask((~mask.hidden).astype(np.int64), (MaskObject(VOID),))
    try:
        labelled = _label_values(mask)
    except ValueError:
        return shape
    labels = np.where(mask.hidden, 0, labelled.labels)
    if not labels.any():
        return shape if not mask.hidden.all() else replace(shape, objects=())
    present = np.unique(labels[labels > 0])
    objects = tuple(labelled.objects[label - 1] for label in present)
    labels = np.where(labels > 0, np.searchsorted(present, labels) + 1, 0)
    return replace(labelled, labels=labels, objects=objects)


def _label_values(mask: MaskValues) -> LabelledMask:
    values, codes = mask.values, mask.values
    if values.ndim == 3:
        codes = values.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    if mask.palette is None and not (mask.lossy or mask.soft):
        bright = _label_bright(values)
        if bright is not None:
            return bright
    if mask.palette is None and (mask.lossy or has_soft_edges(codes)):
        return _label_nearest(values, mask.lossy)
    present, labels = np.unique(codes, return_inverse=True)
    labels = labels.reshape(codes.shape) + int(present[0] != 0)
    numbers = [int(code) for code in present if code]
    if mask.palette is not None:
        objects = [MaskObject(number, _triple(mask.palette[number])) for number in numbers]
    elif values.ndim == 3:
        objects = [_of_colour((code >> 16, code >> 8 & 255, code & 255), 0) for code in numbers]
    else:
        objects = [MaskObject(number) for number in numbers]
    return LabelledMask(labels, tuple(objects), soft=mask.soft, palette=mask.palette)


def _label_bright(values: np.ndarray) -> LabelledMask | None:
    """Take grey that is dark or bright alone, but for edges, for one object: what is brighter than halfway.

    So are masks that were compressed, resized or stored with a video's levels before they were saved.
    None for anything else, such as numbers of objects; signed ones, of arrays, are no brightness.
    """
    if values.ndim != 2 or values.dtype.kind != "u":
        return None
    full, darkest, brightest = np.iinfo(values.dtype).max, int(values.min()), int(values.max())
    if brightest < (full + 1) / 2 or (full > 255 and brightest < 0.9 * full) or darkest > brightest / 8:
        return None
    tenth = (brightest - darkest) / 10
    between = (values > darkest + tenth) & (values < brightest - tenth)
    interior = cv2.erode(between.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
    if interior.sum() >= _FEWEST_FLAT:
        return None
    inside = values >= (darkest + brightest) / 2
    return LabelledMask(inside.astype(np.int64), (MaskObject(brightest),), _NEAR, soft=bool(between.any()))


def _label_nearest(values: np.ndarray, lossy: bool) -> LabelledMask:
    """Give every pixel to the nearest of the main colours, or to black."""
    if values.dtype != np.uint8:
        values = (values / max(1, values.max()) * 255 + 0.5).astype(np.uint8)
    if lossy and 0 < values.max() < _DARKEST_LOSSY:
        raise ValueError(
            f"is compressed with loss and has no value above {values.max()}, so that its objects are lost; "
            "save the mask as png"
        )
    pixels = values.reshape(*values.shape[:2], -1)
    flat = _is_flat(pixels, _FLAT_LOSSY if lossy else _FLAT_SOFT)
    colours = _main_colours(pixels[flat], 0 if lossy else _LEAST_PURE)
    if not len(colours) and pixels.any():  # nothing but edges: thin lines
        colours = pixels.reshape(-1, pixels.shape[2])[[pixels.max(axis=-1).argmax()]]
    labels = np.zeros(pixels.shape[:2], np.int64)
    nearest = np.linalg.norm(pixels.astype(np.float32), axis=-1)
    for label, colour in enumerate(colours, start=1):
        distance = np.linalg.norm(pixels.astype(np.float32) - colour, axis=-1)
        labels[distance < nearest] = label
        nearest = np.minimum(nearest, distance)
    even = (nearest[flat] <= _EVEN).mean() if flat.any() else 0.0
    if flat.mean() < 0.5 or even < 0.9:
        if values.ndim == 2 and _is_matte(values):
            inside = (values >= values.max() / 2).astype(np.int64)
            return LabelledMask(inside, (MaskObject(int(values.max())),), _NEAR, soft=True)
        raise ValueError("has the many colours of a photograph; give a mask, each object in one colour")
    objects = [
        _of_colour(_triple(colour), _NEAR) if len(colour) == 3 else MaskObject(int(colour[0]))
        for colour in colours
    ]
    return LabelledMask(labels, tuple(objects), _NEAR, soft=not lossy)


def _is_flat(pixels: np.ndarray, change: int) -> np.ndarray:
    """Where (H, W, C) uint8 pixels differ by no more than ``change`` from all around them."""
    block = np.ones((3, 3), np.uint8)
    lowest, highest = (extreme(pixels, block).reshape(pixels.shape) for extreme in (cv2.erode, cv2.dilate))
    return (highest - lowest).max(axis=-1) <= change


def _is_matte(values: np.ndarray) -> bool:
    """Whether grey values (H, W) are mostly near black or their largest, as those of no photograph are."""
    return bool(((values <= 0.2 * values.max()) | (values >= 0.8 * values.max())).mean() >= 0.5)


def _main_colours(pixels: np.ndarray, least_pure: float) -> np.ndarray:
    """Find the colours of (P, C) pixels but black, (K, C), more than ``_NEAR`` apart, in ascending order.

    Of the pixels near a colour, a share of ``least_pure`` has to have the very colour.
    """
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    left = np.linalg.norm(found.astype(np.float32), axis=-1) > _NEAR
    chosen: list[np.ndarray] = []
    while left.any() and len(chosen) <= _MOST_OBJECTS:
        colour = found[np.where(left, counts, 0).argmax()]
        near = np.linalg.norm(found.astype(np.float32) - colour, axis=-1) <= _NEAR
        pure = counts[(found == colour).all(axis=-1)].sum() >= least_pure * counts[near].sum()
        near &= left
        if pure and counts[near].sum() >= _FEWEST_FLAT:
            chosen.append(colour)
        left &= ~near
    return np.array(sorted(map(tuple, chosen)), np.uint8)


def _triple(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = map(int, colour)
    return red, green, blue


def _of_colour(colour: tuple[int, int, int], tolerance: float) -> MaskObject:
    """Name a colour; if it is of the palette of DAVIS, by its index there too."""
    palette = _davis_palette()
    distance = np.linalg.norm(palette - np.array(colour), axis=-1)
    number = int(distance.argmin())
    if distance[number] > tolerance:
        return MaskObject(None, colour)
    return MaskObject(number, _triple(palette[number]))


def _davis_palette() -> np.ndarray:
    """(256, 3) colours of PASCAL VOC and DAVIS: the bits of the index, spread over R, G and B."""
    index, colours = np.arange(256), np.zeros((256, 3), np.int64)
    for bit in range(7, -1, -1):
        for channel in range(3):
            colours[:, channel] |= (index & 1) << bit
            index >>= 1
    return colours
