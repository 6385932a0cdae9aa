"""Small data sets in the published layouts, and other clips, whose motion is known."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from t4g_tracker.coordinates import pixels_to_fractions
from t4g_tracker.datasets.badja import ALL_JOINTS
from t4g_tracker.synthetic.clips import TrainingClip

SIZE = (64, 96)
MOTIONS = {"left": (-2.0, -1.5), "right": (3.0, 0.5)}
POINTS = ((0, 40, 40), (0, 60, 30), (0, 30.5, 45.25))


def annotations(clip, queries):
    """TAP-Vid's own arrays of a clip's true tracks."""
    xy, seen = clip.follow(queries)
    return {"points": pixels_to_fractions(xy, SIZE).numpy(), "occluded": ~seen.numpy()}


def clips(slide, ask, frames=7):
    """Two clips by name, each with its annotations."""
    made = {name: slide(frames, SIZE, velocity) for name, velocity in MOTIONS.items()}
    return {name: (clip, annotations(clip, ask(*POINTS))) for name, clip in made.items()}


def davis_tree(root: Path, slide, ask, tracks: bool = True) -> Path:
    """A DAVIS folder: frames, masks, a split, and perhaps tracks."""
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("".join(f"{name}\n" for name in MOTIONS))
    for name, (clip, arrays) in clips(slide, ask).items():
        frames, masks = (root / part / "480p" / name for part in ("JPEGImages", "Annotations"))
        frames.mkdir(parents=True)
        masks.mkdir(parents=True)
        for index, frame in enumerate(clip.video.frames):
            Image.fromarray(frame).save(frames / f"{index:05d}.png")
            mask = np.zeros(SIZE, np.uint8)
            mask[20:44, 30:60] = 1
            Image.fromarray(mask).save(masks / f"{index:05d}.png")
        if tracks:
            (root / "tracks").mkdir(exist_ok=True)
            np.savez(root / "tracks" / f"{name}.npz", **arrays)
    return root


def tapvid_dict(slide, ask, encode: bool = False):
    """Clips as TAP-Vid pickles them, frames as arrays or as encoded images."""
    return {
        name: {"video": _png(clip) if encode else clip.video.frames, **arrays}
        for name, (clip, arrays) in clips(slide, ask).items()
    }


def write_pickle(path: Path, value, protocol: int | None = None) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def badja_tree(root: Path, slide) -> Path:
    """A BADJA folder with one animal, whose joints slide along; every third frame is annotated."""
    clip = slide(7, SIZE, (2.0, 1.0))
    folder = "DAVIS/JPEGImages/Full-Resolution/beast"
    masks = "DAVIS/Annotations/Full-Resolution/beast"
    (root / folder).mkdir(parents=True)
    (root / masks).mkdir(parents=True)
    (root / "joint_annotations").mkdir()
    start = torch.stack([torch.linspace(20, 60, ALL_JOINTS), torch.linspace(20, 40, ALL_JOINTS)], -1)
    entries = []
    for index, frame in enumerate(clip.video.frames):
        Image.fromarray(frame).save(root / folder / f"{index:05d}.png")
        mask = np.zeros(SIZE, np.uint8)
        mask[10:35, 10:50] = 255  # 1000 pixels
        Image.fromarray(mask).save(root / masks / f"{index:05d}.png")
        if index % 3 == 0:
            xy = clip.move(start, torch.full((ALL_JOINTS,), float(index)))
            entries.append(
                {
                    "image_path": f"{folder}/{index:05d}.png",
                    "segmentation_path": f"{masks}/{index:05d}.png",
                    "joints": xy.flip(-1).tolist(),
                    "visibility": [joint != 8 or index > 0 for joint in range(ALL_JOINTS)],
                }
            )
    (root / "joint_annotations" / "beast.json").write_text(json.dumps(entries))
    return root


def _png(clip):
    encoded = []
    for frame in clip.video.frames:
        with io.BytesIO() as file:
            Image.fromarray(frame).save(file, "PNG")
            encoded.append(file.getvalue())
    return encoded


def dots(frames: int = 6, size: tuple[int, int] = (96, 128), points: int = 12) -> TrainingClip:
    """Bright dots of different colours on black, each drifting its own way; tracks are their centres."""
    generator = torch.Generator().manual_seed(1)
    start = torch.rand(points, 2, generator=generator) * torch.tensor([size[1] - 48.0, size[0] - 48.0]) + 24
    pace = torch.randn(points, 2, generator=generator)
    xy = start[:, None] + pace[:, None] * torch.arange(frames)[:, None]
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    pictures = torch.zeros(frames, 3, *size)
    colour = torch.rand(points, 3, generator=generator) * 155 + 100
    for t in range(frames):
        for n in range(points):
            near = torch.exp(-((x - xy[n, t, 0]) ** 2 + (y - xy[n, t, 1]) ** 2) / 6)
            pictures[t] = torch.maximum(pictures[t], near * colour[n, :, None, None])
    return TrainingClip(pictures.round().to(torch.uint8), xy, torch.ones(points, frames, dtype=torch.bool))
