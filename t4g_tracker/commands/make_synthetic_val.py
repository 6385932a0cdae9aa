"""Write the project's own benchmark, synthetic-val: ``t4g make-synthetic-val FOLDER``.

Clips that no training has seen, in the layout that ``t4g bench --data FOLDER`` reads.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from t4g_tracker.commands.guarded import guarded
from t4g_tracker.coordinates import Size, pixels_to_fractions
from t4g_tracker.errors import ConfigError
from t4g_tracker.files import atomic_write, prepare_output_folder
from t4g_tracker.synthetic.clips import TrainingClip, draw_clip, val_generator

JPEG_QUALITY = 97  # the clips have their own losses already

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ValConfig:
    """How much of the benchmark is made. Clip 3 is the same however many there are."""

    clips: int = 8
    frames: int = 32
    size: Size = (480, 854)
    points: int = 64  # a clip

    def __post_init__(self) -> None:
        for name, least in (("clips", 1), ("frames", 2), ("points", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if min(self.size) < 32:
            raise ConfigError(f"size must be at least 32x32, got {self.size[0]}x{self.size[1]}")


def make_val(folder: Path, config: ValConfig) -> None:
    """Write ``config.clips`` clips to ``folder``: frames as JPEG, tracks as TAP-Vid's fields.

    Raises:
        OutputError: If the folder or a file cannot be written.
        TrackerError: If scikit-image is not installed.
    """
    prepare_output_folder(folder)
    for index in range(config.clips):
        clip = draw_clip(val_generator(index), config.frames, config.size, config.points)
        write_clip(folder, f"synthetic-{index:02d}", clip)
        log.info("clip %d of %d", index + 1, config.clips)


def write_clip(folder: Path, name: str, clip: TrainingClip) -> None:
    """Write one clip in the layout of ``docs/formats.md``.

    Raises:
        OutputError: If a file cannot be written.
    """
    pictures = prepare_output_folder(folder / "JPEGImages" / "480p" / name)
    for number, frame in enumerate(clip.frames.movedim(1, -1).cpu().numpy()):
        with atomic_write(pictures / f"{number:05d}.jpg") as path:
            Image.fromarray(frame).save(path, quality=JPEG_QUALITY, subsampling=0)
    size = (clip.frames.shape[-2], clip.frames.shape[-1])
    fractions = pixels_to_fractions(clip.xy, size).cpu().numpy()
    prepare_output_folder(folder / "tracks")
    with atomic_write(folder / "tracks" / f"{name}.npz") as path:
        np.savez(path, points=fractions, occluded=~clip.visibility.cpu().numpy())


def _size(text: str) -> Size:
    """HEIGHTxWIDTH."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, as 480x854, got {text}")
    return int(height), int(width)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    default = ValConfig()
    parser = argparse.ArgumentParser(prog="t4g make-synthetic-val", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write the benchmark")
    parser.add_argument("--clips", type=int, default=default.clips, help="default %(default)s")
    parser.add_argument(
        "--frames", type=int, default=default.frames, help="of each clip; default %(default)s"
    )
    parser.add_argument("--size", type=_size, default=default.size, help="HEIGHTxWIDTH; default 480x854")
    arguments = parser.parse_args(argv)
    config = ValConfig(clips=arguments.clips, frames=arguments.frames, size=arguments.size)
    make_val(arguments.folder, config)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
