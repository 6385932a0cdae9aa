"""The DAVIS 2017 folder: ``JPEGImages/480p/<name>/``, ``Annotations/480p/<name>/``, ``ImageSets/2017/``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from t4g_tracker.coordinates import rescale
from t4g_tracker.datasets.annotated import AnnotatedClip
from t4g_tracker.datasets.annotations import check_clips
from t4g_tracker.datasets.frames_and_tracks import check_annotations, read_annotations
from t4g_tracker.datasets.tapvid import PickledClips
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import DatasetError, suggestion
from t4g_tracker.inputs.image_sequences import image_files
from t4g_tracker.inputs.video import read_video


@dataclass(frozen=True)
class DavisFolder:
    """Sequences of frames, with masks and, in some folders, TAP-Vid's tracks.

    Tracks come from ``tapvid``, TAP-Vid's pickle, or from ``tracks/<name>.npz`` in the folder.
    """

    root: Path
    tapvid: Path | None = None

    def frames(self, name: str) -> Path:
        return self.root / "JPEGImages" / "480p" / name

    def masks(self, name: str) -> Path:
        return self.root / "Annotations" / "480p" / name

    def first_mask(self, name: str) -> Path:
        """Find the mask of the first frame; raise DatasetError if there is none."""
        masks = image_files(self.masks(name)) if self.masks(name).is_dir() else []
        if not masks:
            raise DatasetError(
                f"{self.masks(name)}: has no mask of the first frame, in which to put a grid; "
                "give --queries FOLDER, or DAVIS with its Annotations"
            )
        return masks[0]

    def sequences(self, split: str, only: list[str] | None) -> list[str]:
        """List the sequences of a split, or those of ``only``.

        Args:
            split: A name such as "val", or a text file of names.
            only: Names of sequences, in which case the split is not read; None for the whole split.

        Raises:
            DatasetError: If the split or a sequence is missing.
        """
        every = self.root / "JPEGImages" / "480p"
        if not every.is_dir():
            raise DatasetError(f"{every}: no such folder; give the root of DAVIS 2017 at 480p")
        if only:
            names = only
        else:
            own = self.root / "ImageSets" / "2017" / f"{split}.txt"
            file = own if own.is_file() else Path(split)
            if not file.is_file():
                raise DatasetError(
                    f"{own}: no such file; name the sequences with --sequences, or a --split file"
                )
            names = _names_in(file)
        present = sorted(folder.name for folder in every.iterdir() if folder.is_dir())
        for name in names:
            if name not in present:
                meant = suggestion(name, present, f"it has {', '.join(present)}")
                raise DatasetError(f"{every}: has no sequence {name}; {meant}")
        return list(dict.fromkeys(names))

    def annotated(self, name: str) -> AnnotatedClip:
        """Read a sequence with its tracks.

        Raises:
            DatasetError: If the tracks are missing or do not fit the frames.
            VideoError: If the frames cannot be read.
        """
        video = read_video(self.frames(name))
        if self.tapvid is not None:
            return self._from_pickle(name, video)
        return read_annotations(self._tracks(name), video)

    def has_annotations(self) -> bool:
        return self.tapvid is not None or (self.root / "tracks").is_dir()

    def check_annotations(self, names: list[str]) -> None:
        """Check that every sequence has tracks, and look at them before any is tracked.

        Raises:
            DatasetError: If one has none, the pickle cannot be used, or no sequence has usable tracks.
        """
        if self.tapvid is not None:
            annotated = self._pickled().names()
        else:
            annotated = [name for name in names if self._tracks(name).is_file()]
        for name in names:
            if name not in annotated:
                raise DatasetError(
                    f"{self.tapvid or self._tracks(name)}: has no tracks of {name}; leave it out with "
                    "--sequences, or give its points with --grid or --queries"
                )
        check_clips(names, self._check_tracks)

    def _check_tracks(self, name: str) -> None:
        """Read and check the tracks of one sequence, without its frames."""
        if self.tapvid is None:
            check_annotations(self._tracks(name), self.frames(name))
            return
        stored, here = self._pickled().visibility(name).shape[1], len(image_files(self.frames(name)))
        self._check_length(name, stored, here, self.frames(name))

    def _check_length(self, name: str, stored: int, here: int, frames: object) -> None:
        if stored != here:
            raise DatasetError(
                f"{self.tapvid}: {name} has {stored} frames, {frames} has {here}; give the pickle and the "
                "frames of the same release"
            )

    def check_masks(self, names: list[str]) -> None:
        """Raise DatasetError if a sequence has no masks of its frames."""
        for name in names:
            if not self.masks(name).is_dir():
                raise DatasetError(
                    f"{self.masks(name)}: no such folder of masks; leave {name} out with --sequences, "
                    "or track without --foreground"
                )

    def _tracks(self, name: str) -> Path:
        return self.root / "tracks" / f"{name}.npz"

    def _pickled(self) -> PickledClips:
        assert self.tapvid is not None
        return _opened(self.tapvid)

    def _from_pickle(self, name: str, video: Video) -> AnnotatedClip:
        stored = self._pickled().load(name)
        self._check_length(name, stored.video.frame_count, video.frame_count, video.source)
        xy = rescale(stored.truth.xy, stored.video.size, video.size)
        return AnnotatedClip(video, replace(stored.truth, xy=xy), video.size)


def _names_in(file: Path) -> list[str]:
    """Read the names of sequences from a text file."""
    try:
        names = file.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: cannot be read as text; write a name on each line, in UTF-8") from error
    if not names:
        raise DatasetError(f"{file}: names no sequence; write a name on each line, or give --sequences")
    return names


@lru_cache(maxsize=1)
def _opened(path: Path) -> PickledClips:
    """Open the pickle, once per process."""
    return PickledClips(path)
