"""The DAVIS 2017 folder: ``JPEGImages/480p/<name>/``, ``Annotations/480p/<name>/``, ``ImageSets/2017/``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t4g_tracker.coordinates import rescale
from t4g_tracker.datasets.annotated import AnnotatedClip
from t4g_tracker.datasets.frames_and_tracks import read_annotations
from t4g_tracker.datasets.tapvid import PickledClips
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import DatasetError
from t4g_tracker.video import image_files, read_video


@dataclass(frozen=True)
class DavisFolder:
    """Sequences of frames, with masks and perhaps TAP-Vid's tracks.

    Tracks are those of ``tapvid``, TAP-Vid's pickle, or of ``tracks/<name>.npz`` in the folder.
    """

    root: Path
    tapvid: Path | None = None

    def frames(self, name: str) -> Path:
        return self.root / "JPEGImages" / "480p" / name

    def masks(self, name: str) -> Path:
        return self.root / "Annotations" / "480p" / name

    def first_mask(self, name: str) -> Path:
        """The mask of the first frame.

        Raises:
            DatasetError: If there is none.
        """
        masks = image_files(self.masks(name)) if self.masks(name).is_dir() else []
        if not masks:
            raise DatasetError(
                f"{self.masks(name)}: has no mask of the first frame for the grid to lie in; "
                "give --queries FOLDER, or DAVIS with its Annotations"
            )
        return masks[0]

    def sequences(self, split: str, wanted: list[str] | None) -> list[str]:
        """The sequences of a split, or those of the folder that are wanted.

        Args:
            split: A name such as "val", or a text file of names.
            wanted: Names; None for all of the split.

        Raises:
            DatasetError: If the split or a sequence is not there.
        """
        if wanted:
            names = wanted
        else:
            own = self.root / "ImageSets" / "2017" / f"{split}.txt"
            file = own if own.is_file() else Path(split)
            if not file.is_file():
                raise DatasetError(
                    f"{own}: no such file; name the sequences with --sequences, or a --split file"
                )
            names = file.read_text(encoding="utf-8").split()
        for name in names:
            if not self.frames(name).is_dir():
                raise DatasetError(
                    f"{self.frames(name)}: no such folder; give the root of DAVIS 2017 at 480p"
                )
        return list(dict.fromkeys(names))

    def annotated(self, name: str) -> AnnotatedClip | None:
        """A sequence with its tracks; None where it has none.

        Raises:
            DatasetError: If tracks are there but do not fit the frames.
            VideoError: If the frames cannot be read.
        """
        video = read_video(self.frames(name))
        if self.tapvid is not None:
            return self._from_pickle(name, video)
        file = self.root / "tracks" / f"{name}.npz"
        return read_annotations(file, video) if file.is_file() else None

    def has_annotations(self) -> bool:
        return self.tapvid is not None or (self.root / "tracks").is_dir()

    def _from_pickle(self, name: str, video: Video) -> AnnotatedClip | None:
        assert self.tapvid is not None
        clips = PickledClips(self.tapvid)
        if name not in clips.names():
            return None
        stored = clips.load(name)
        if stored.video.frame_count != video.frame_count:
            raise DatasetError(
                f"{self.tapvid}: {name} has {stored.video.frame_count} frames, {video.source} has "
                f"{video.frame_count}"
            )
        return AnnotatedClip(video, rescale(stored.xy, stored.video.size, video.size), stored.visibility)
