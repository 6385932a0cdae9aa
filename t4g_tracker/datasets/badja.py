"""BADJA: joints of animals in DAVIS videos, annotated in some of the frames.

``joint_annotations/<clip>.json`` lists annotated frames: ``image_path`` and ``segmentation_path``
(from the folder that holds ``joint_annotations``), ``joints`` as (y, x) pixels of the full-resolution
frame and ``visibility``, for all joints of the SMAL model. Source: Biggs et al., Creatures
Great and SMAL, ACCV 2018.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from t4g_tracker.coordinates import Size, pixels_to_fractions
from t4g_tracker.datasets.annotated import AnnotatedClip
from t4g_tracker.datasets.annotations import OUTSIDE_AT_MOST, numbers, outside_by, truth_values
from t4g_tracker.datatypes import Tracks
from t4g_tracker.errors import DatasetError, one_line
from t4g_tracker.inputs.image_sequences import image_files
from t4g_tracker.inputs.masks import read_mask
from t4g_tracker.inputs.video import read_video

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
            DatasetError: If the annotations cannot be used or name frames that are missing.
            VideoError, QueryError: If frames or masks cannot be read.
        """
        placed = self._placed(name)
        count = placed.seen.shape[1]
        part = placed.first_frame, placed.first_frame + count - 1
        video = replace(read_video(placed.folder, frames=part), name=name, start_frame=0)
        _check_inside(placed, video.size, self._files[name])
        reach = torch.full((count,), float("nan"))
        for frame, mask in placed.masks.items():
            reach[frame] = REACH * float(np.sqrt(read_mask(mask, video).sum()))
        xy, seen = torch.from_numpy(placed.xy), torch.from_numpy(placed.seen)
        return AnnotatedClip(video, Tracks.known(xy, seen), video.size, reach)

    def visibility(self, name: str) -> np.ndarray:
        """Read and check the annotations of one clip, without its frames; (N, T) bool, True where visible.

        Raises:
            DatasetError: If they are unusable or name frames that are missing.
        """
        return self._placed(name).seen

    def _placed(self, name: str) -> _Placed:
        """Put the annotations of a clip into its frames."""
        file = self._files[name]
        entries = _entries(file)
        folder, frames = self._annotated_frames(file, entries)
        first, count = min(frames), max(frames) - min(frames) + 1
        if len(set(frames)) < len(frames) or count < 2:
            raise DatasetError(f"{file}: must annotate at least two frames, each once; {REMEDY}")
        joints = list(ANNOTATED_JOINTS) if len(entries[0].yx) == ALL_JOINTS else slice(None)
        points = len(entries[0].yx[joints])
        xy, seen = np.zeros((points, count, 2), np.float32), np.zeros((points, count), bool)
        for frame, entry in zip(frames, entries, strict=True):
            xy[:, frame - first] = entry.yx[joints, ::-1]
            seen[:, frame - first] = entry.seen[joints]
        if not seen.any():
            raise DatasetError(f"{file}: shows none of its joints in any frame; {REMEDY}")
        masks = {frame - first: self.root / entry.mask for frame, entry in zip(frames, entries, strict=True)}
        return _Placed(folder, first, xy, seen, masks)

    def _annotated_frames(self, file: Path, entries: list[_Entry]) -> tuple[Path, list[int]]:
        """Find the folder of a clip's frames, and the index of each annotated frame in it."""
        folders = {(self.root / entry.picture).parent for entry in entries}
        if len(folders) != 1:
            raise DatasetError(f"{file}: names frames of {len(folders)} folders, a clip has one; {REMEDY}")
        folder = folders.pop()
        pictures = [picture.name for picture in image_files(folder)] if folder.is_dir() else []
        frames = []
        for entry in entries:
            picture = Path(entry.picture).name
            if picture not in pictures:
                raise DatasetError(
                    f"{file}: names {entry.picture}, which is not below {self.root}; "
                    "put DAVIS and extra_videos beside joint_annotations"
                )
            frames.append(pictures.index(picture))
        return folder, frames


@dataclass(frozen=True)
class _Entry:
    """One annotated frame as the file describes it."""

    picture: str  # path from the folder that holds joint_annotations
    mask: str  # likewise
    yx: np.ndarray  # (N, 2) float32 pixels; finite where seen
    seen: np.ndarray  # (N,) bool


@dataclass(frozen=True)
class _Placed:
    """The annotations of a clip, over the frames from the first annotated one to the last."""

    folder: Path  # of the frames
    first_frame: int  # index of the first annotated frame in it
    xy: np.ndarray  # (N, T, 2) float32 pixels; 0 in frames without annotations
    seen: np.ndarray  # (N, T) bool
    masks: dict[int, Path]  # by annotated frame


def _entries(file: Path) -> list[_Entry]:
    """Read the annotated frames of one file, and check that each is complete."""
    try:
        items = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: cannot be read as JSON ({one_line(error)}); {REMEDY}") from error
    if not isinstance(items, list) or not items:
        raise DatasetError(f"{file}: is not a list of annotated frames; {REMEDY}")
    entries = [_entry(item, f"{file}: item {index}") for index, item in enumerate(items)]
    for index, entry in enumerate(entries):
        if len(entry.yx) != len(entries[0].yx):
            raise DatasetError(
                f"{file}: item {index}: has {len(entry.yx)} joints, the first has {len(entries[0].yx)}; "
                f"{REMEDY}"
            )
    return entries


def _entry(item: Any, source: str) -> _Entry:
    """Check one annotated frame."""
    for part in ("image_path", "segmentation_path", "joints", "visibility"):
        if not isinstance(item, dict) or part not in item:
            raise DatasetError(f"{source} has no {part}; {REMEDY}")
    for part in ("image_path", "segmentation_path"):
        if not isinstance(item[part], str) or "\0" in item[part]:
            raise DatasetError(f"{source}: its {part} is not a path; {REMEDY}")
    seen = truth_values(item["visibility"], "visibility", source)
    joints = numbers(item["joints"], "joints", source)
    if joints.ndim != 2 or joints.shape[1] != 2 or seen.shape != joints.shape[:1]:
        raise DatasetError(
            f"{source}: joints {joints.shape} and visibility {seen.shape} do not fit each other; {REMEDY}"
        )
    if not np.isfinite(joints[seen]).all():
        raise DatasetError(f"{source}: a visible joint has no finite position; {REMEDY}")
    with np.errstate(over="ignore"):  # of hidden joints
        return _Entry(item["image_path"], item["segmentation_path"], joints.astype(np.float32), seen)


def _check_inside(placed: _Placed, size: Size, file: Path) -> None:
    """Refuse joints far outside the frames, which are of another size then than the annotated ones."""
    fractions = pixels_to_fractions(torch.from_numpy(placed.xy), size).numpy()
    far = placed.seen & (outside_by(np.nan_to_num(fractions)) > OUTSIDE_AT_MOST)
    if far.any():
        joint, frame = np.argwhere(far)[0].tolist()
        x, y = placed.xy[joint, frame].tolist()
        raise DatasetError(
            f"{file}: a joint is visible at x = {x:.6g}, y = {y:.6g} in frame {placed.first_frame + frame}, "
            f"far outside frames of {size[1]}x{size[0]}; give the frames at full resolution"
        )
