"""BADJA: joints of animals in DAVIS videos, annotated in some of the frames.

``joint_annotations/<clip>.json`` lists annotated frames: ``image_path`` and ``segmentation_path``
(from the folder that holds ``joint_annotations``), ``joints`` as (y, x) pixels of the full-resolution
frame and ``visibility``, for all joints of the SMAL model. Source: Biggs et al., Creatures
Great and SMAL, ACCV 2018.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t4g_tracker.datasets.annotated import AnnotatedClip
from t4g_tracker.datatypes import Tracks, Video
from t4g_tracker.errors import DatasetError
from t4g_tracker.image_sequences import image_files
from t4g_tracker.masks import read_mask
from t4g_tracker.video import read_video

ALL_JOINTS = 37  # of the SMAL model as BADJA numbers them
ANNOTATED_JOINTS = (8, 9, 10, 12, 13, 14, 15, 18, 19, 20, 22, 23, 24, 25, 28, 31, 32, 33, 35, 36)
REACH = 0.2  # a joint counts as found within this share of the square root of the animal's area
REMEDY = "use the file that BADJA publishes"


class BadjaClips:
    """The clips of a BADJA folder.

    Args:
        root: Folder with ``joint_annotations/``, which give the paths of frames and masks.

    Raises:
        DatasetError: If it has no annotations.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = {file.stem: file for file in sorted((root / "joint_annotations").glob("[!.]*.json"))}
        if not self._files:
            raise DatasetError(
                f"{root}: has no joint_annotations/<clip>.json; give the folder of the BADJA repository"
            )

    def names(self) -> list[str]:
        return list(self._files)

    def load(self, name: str) -> AnnotatedClip:
        """Read a clip from its first annotated frame to its last.

        Raises:
            DatasetError: If the annotations cannot be read or name frames that are missing.
            VideoError, QueryError: If frames or masks cannot be read.
        """
        file = self._files[name]
        entries = _entries(file)
        folder, frames = self._annotated_frames(file, entries)
        # Cut the video to the annotated stretch.
        whole = read_video(folder)
        first, count = min(frames), max(frames) - min(frames) + 1
        video = Video(whole.frames[first : first + count], whole.fps, name, whole.source)
        # Fill in the annotated frames.
        joints = list(ANNOTATED_JOINTS) if len(entries[0]["joints"]) == ALL_JOINTS else slice(None)
        points = len(np.asarray(entries[0]["joints"])[joints])
        xy = torch.zeros(points, count, 2)
        seen, reach = torch.zeros(points, count, dtype=torch.bool), torch.full((count,), float("nan"))
        for frame, entry in zip(frames, entries, strict=True):
            yx = torch.tensor(np.asarray(entry["joints"], dtype=np.float32)[joints])
            xy[:, frame - first] = yx.flip(-1)
            seen[:, frame - first] = torch.tensor(np.asarray(entry["visibility"]).astype(bool)[joints])
            reach[frame - first] = self._reach(entry, video)
        return AnnotatedClip(video, Tracks.known(xy, seen), video.size, reach)

    def _annotated_frames(self, file: Path, entries: list[dict[str, Any]]) -> tuple[Path, list[int]]:
        """Find the folder of a clip's frames, and the index of each annotated frame in it."""
        folders = {(self.root / entry["image_path"]).parent for entry in entries}
        if len(folders) != 1:
            raise DatasetError(f"{file}: names frames of {len(folders)} folders, a clip has one; {REMEDY}")
        folder = folders.pop()
        pictures = [picture.name for picture in image_files(folder)] if folder.is_dir() else []
        frames = []
        for entry in entries:
            picture = Path(entry["image_path"]).name
            if picture not in pictures:
                raise DatasetError(
                    f"{file}: names {entry['image_path']}, which is not below {self.root}; "
                    "put DAVIS and extra_videos beside joint_annotations"
                )
            frames.append(pictures.index(picture))
        return folder, frames

    def _reach(self, entry: dict[str, Any], video: Video) -> Tensor:
        mask = read_mask(self.root / entry["segmentation_path"], video)
        return torch.tensor(REACH * float(np.sqrt(mask.sum())))


def _entries(file: Path) -> list[dict[str, Any]]:
    """Read the annotated frames of one file, and check that each is complete."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: cannot be read as JSON ({error}); {REMEDY}") from error
    if not isinstance(entries, list) or not entries:
        raise DatasetError(f"{file}: is not a list of annotated frames; {REMEDY}")
    for index, entry in enumerate(entries):
        for part in ("image_path", "segmentation_path", "joints", "visibility"):
            if not isinstance(entry, dict) or part not in entry:
                raise DatasetError(f"{file}: item {index} has no {part}; {REMEDY}")
        try:
            joints = np.asarray(entry["joints"], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{file}: item {index}: joints are not pairs of numbers; {REMEDY}") from error
        visibility = np.asarray(entry["visibility"])
        if joints.shape != (len(entries[0]["joints"]), 2) or visibility.shape != joints.shape[:1]:
            raise DatasetError(
                f"{file}: item {index}: joints {joints.shape} and visibility {visibility.shape} do not fit "
                f"each other or those of the first item; {REMEDY}"
            )
    return entries
