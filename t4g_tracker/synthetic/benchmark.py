"""The project's own benchmark, synthetic-val: held-out synthetic clips for ``t4g bench``."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image

from t4g_tracker.coordinates import pixels_to_fractions
from t4g_tracker.storage.files import atomic_write, prepare_output_folder
from t4g_tracker.storage.unfinished import remove_leftovers
from t4g_tracker.synthetic.clips import TrainingClip, generate_clip, val_generator
from t4g_tracker.synthetic.settings import ValConfig

JPEG_QUALITY = 97  # high, since the clips already contain compression losses

log = logging.getLogger(__name__)


def make_val(folder: Path, config: ValConfig) -> None:
    """Write ``config.clips`` clips to ``folder``: frames as JPEG, tracks as TAP-Vid's fields.

    Each is named by its number, which decides what it shows.

    Raises:
        OutputError: If the folder or a file cannot be written.
        TrackerError: If scikit-image is not installed.
    """
    prepare_output_folder(folder)
    remove_leftovers(folder)
    for done, index in enumerate(range(config.first, config.first + config.clips), 1):
        clip = generate_clip(val_generator(index), config.frames, config.size, config.points)
        write_clip(folder, f"synthetic-{index:02d}", clip)
        log.info("clip %d of %d", done, config.clips)


def write_clip(folder: Path, name: str, clip: TrainingClip) -> None:
    """Write one clip in the layout of ``docs/formats.md``.

    Raises:
        OutputError: If a file cannot be written.
    """
    pictures = prepare_output_folder(folder / "JPEGImages" / "480p" / name)
    remove_leftovers(pictures)
    for number, frame in enumerate(clip.frames.movedim(1, -1).cpu().numpy()):
        with atomic_write(pictures / f"{number:05d}.jpg") as path:
            Image.fromarray(frame).save(path, quality=JPEG_QUALITY, subsampling=0)
    size = (clip.frames.shape[-2], clip.frames.shape[-1])
    fractions = pixels_to_fractions(clip.xy, size).cpu().numpy()
    prepare_output_folder(folder / "tracks")
    with atomic_write(folder / "tracks" / f"{name}.npz") as path:
        np.savez(path, points=fractions, occluded=~clip.visibility.cpu().numpy())
