"""Textures cut from photographs: those that scikit-image bundles, and those of a folder beside them.

Scikit-image is installed by ``pip install -e '.[train]'``.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size
from t4g_tracker.errors import ConfigError, TrackerError, warn
from t4g_tracker.inputs.images import opened_image, read_picture
from t4g_tracker.synthetic.textures import choice, mix, noise, paint, random_colours, uniform

LICENCES = {  # photograph: licence and source, from scikit-image's ``skimage/data/_fetchers.py``
    "astronaut": "public domain; NASA Great Images, flic.kr/p/r9qvLn",
    "brick": "CC0; cc0textures.com, Bricks25",
    "camera": "CC0 by the photographer, Lav Varshney",
    "chelsea": "CC0 by the photographer, Stefan van der Walt",
    "clock": "public domain by the photographer, Stefan van der Walt",
    "coffee": "CC0 by the photographer, Rachel Michetti",
    "coins": "no known copyright restrictions; Brooklyn Museum, image 51611",
    "grass": "CC0; deviantart.com/linolafett/art/Grass-01-434853879",
    "gravel": "CC0; cc0textures.com, Gravel04",
    "hubble_deep_field": "public domain; NASA, hubblesite.org release 2012-37",
    "retina": "CC0; Mikael Häggström, Wikimedia Commons",
    "rocket": "public domain; SpaceX, flickr.com/photos/spacexphotos/16511594820",
}
# Only photographs that may be used commercially and without conditions. Left out: those whose licence is
# not stated (moon, page, motorcycle), the medical slide immunohistochemistry, and drawings.
NAMES = tuple(LICENCES)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif")
SHORTEST_PX = 64  # of a side; smaller pictures are icons
LONGEST_PX = 1024  # larger photographs are shrunk to this: it is what scikit-image's have, and saves memory
SMALLEST_SCALE, LARGEST_SCALE = 0.35, 3.5  # texture pixels per pixel of the photograph
MOST_MIRRORED = 2.0  # largest size of a piece, in sizes of its photograph, which mirroring continues


@dataclass(frozen=True)
class Album:
    """Photographs to take textures from beside those of scikit-image."""

    files: tuple[Path, ...]
    digest: str  # of their content

    @staticmethod
    def of(folder: Path) -> Album:
        """List the photographs in a folder and its subfolders, without those smaller than 64 pixels.

        Raises:
            ConfigError: If the folder is missing or has none, or a picture's header cannot be read.
        """
        if not folder.is_dir():
            raise ConfigError(f"--photographs {folder}: is not a folder; give one with photographs in it")
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        large = [path for path in found if min(_size(path)) >= SHORTEST_PX]
        if not large:
            raise ConfigError(
                f"--photographs {folder}: has no photograph of at least {SHORTEST_PX} pixels a side; the"
                f" names must end in {', '.join(SUFFIXES)}"
            )
        if len(large) < len(found):
            left_out = len(found) - len(large)
            warn(f"--photographs {folder}: {left_out} pictures below {SHORTEST_PX} pixels are left out")
        content = hashlib.blake2b(digest_size=8)
        for path in large:
            content.update(path.read_bytes())
        return Album(tuple(large), content.hexdigest())


def _size(path: Path) -> tuple[int, int]:
    """Read a picture's width and height from its header."""
    with opened_image(path, ConfigError, "remove it from --photographs") as opened:
        return opened.size


@lru_cache(maxsize=64)
def photograph(source: str | Path, device: torch.device) -> Tensor:
    """Load one of ``NAMES``, or a file shrunk to at most 1024 pixels, as (3, h, w) uint8; cached in memory.

    Raises:
        TrackerError: If scikit-image is not installed.
        VideoError: If the file cannot be read.
    """
    picture = torch.from_numpy(_bundled(source) if isinstance(source, str) else _from_file(source))
    planes = picture[..., :3].movedim(-1, 0) if picture.ndim == 3 else picture.expand(3, *picture.shape)
    return planes.to(device)


def _bundled(name: str) -> np.ndarray:
    try:
        from skimage import data
    except ImportError as error:
        raise TrackerError(
            "photographs for training come with scikit-image, which is missing; run pip install -e '.[train]'"
        ) from error
    picture: np.ndarray = getattr(data, name)().copy()
    return picture


def _from_file(path: Path) -> np.ndarray:
    """Read a file as (h, w, 3) uint8 with sides of at most ``LONGEST_PX``."""
    rgb = read_picture(path).rgb
    if rgb.dtype == np.uint16:
        rgb = (rgb >> 8).astype(np.uint8)
    factor = LONGEST_PX / max(rgb.shape[:2])
    if factor >= 1:
        return rgb.copy()
    size = (round(rgb.shape[0] * factor), round(rgb.shape[1] * factor))
    planes = torch.from_numpy(rgb.copy()).movedim(-1, 0)[None].float()
    small = interpolate(planes, size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    return small.round().to(torch.uint8).movedim(0, -1).numpy()


def photo_texture(generator: torch.Generator, size: Size, more: tuple[Path, ...] = ()) -> Tensor:
    """Cut a piece of a photograph, then scale, turn, flip and recolour it at random.

    Shrunk pieces are full of fine detail and enlarged ones are smooth, and real frames are
    either. One texture in eight is made of two pieces that meet along a soft border.

    Args:
        generator: Random numbers; the texture lives on its device.
        size: (h, w) in pixels, at most about 3000 each.
        more: Files of photographs, each as likely as one of scikit-image's.

    Returns:
        (3, h, w) red, green and blue in 0..1.

    Raises:
        TrackerError: If scikit-image is not installed.
    """
    texture = _recolour(generator, _piece(generator, size, more))
    if uniform(generator, 0, 1) < 0.125:
        other = _recolour(generator, _piece(generator, size, more))
        border = noise(generator, size, uniform(generator, 0.2, 0.7) * max(size), 2)
        texture = mix(texture, other, torch.sigmoid(uniform(generator, 2, 30) * border))
    return texture.clamp(0, 1)


def _piece(generator: torch.Generator, size: Size, more: tuple[Path, ...]) -> Tensor:
    """Cut (3, h, w) from a random photograph at a random scale and orientation."""
    sources = (*NAMES, *more)
    picture = photograph(sources[choice(generator, len(sources))], generator.device)
    if uniform(generator, 0, 1) < 0.5:
        picture = picture.flip(-1)
    turns = choice(generator, 6)  # upright more often than turned, as in most video
    if turns in (1, 2, 3):
        picture = picture.rot90(turns, (-2, -1))
    least = max(size[0] / picture.shape[-2], size[1] / picture.shape[-1]) / MOST_MIRRORED
    low = max(SMALLEST_SCALE, least)
    scale = math.exp(uniform(generator, math.log(low), math.log(max(LARGEST_SCALE, low))))
    for axis in (-2, -1):
        length = max(2, round(size[axis] / scale))
        whole = picture.shape[axis]
        start = round(uniform(generator, 0, max(0, whole - length)))
        place = torch.arange(start, start + length, device=picture.device) % (2 * whole)
        picture = picture.index_select(axis, torch.minimum(place, 2 * whole - 1 - place))
    return interpolate(
        picture[None].float() / 255,
        size=size,
        mode="bilinear" if scale < 1 else "bicubic",
        align_corners=False,
        antialias=scale < 1,
    )[0]


def _recolour(generator: torch.Generator, picture: Tensor) -> Tensor:
    """Change contrast, brightness and colours of a picture (3, h, w) at random."""
    if uniform(generator, 0, 1) < 0.4:
        grey = picture.mean(dim=0)
        if uniform(generator, 0, 1) < 0.5:
            picture = mix(picture, paint(grey, random_colours(generator, 4)), torch.full_like(grey, 0.8))
        else:
            picture = mix(picture, grey.expand_as(picture), torch.full_like(grey, uniform(generator, 0, 1)))
    if uniform(generator, 0, 1) < 0.1:
        order = torch.randperm(3, generator=generator, device=generator.device)
        picture = picture[order]
    gain = torch.exp(0.12 * torch.randn(3, 1, 1, generator=generator, device=generator.device))
    gamma = math.exp(uniform(generator, -0.5, 0.5))
    return (picture.clamp(1e-3, 1) ** gamma * gain).clamp(0, 1)
