"""Annotated data sets behind one interface: the names of clips, a clip by its name, a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from t4g_tracker.choices import DatasetName, QueryMode
from t4g_tracker.datasets.annotated import AnnotatedClip, View
from t4g_tracker.datasets.annotations import check_clips
from t4g_tracker.datasets.badja import BadjaClips
from t4g_tracker.datasets.frames_and_tracks import FolderClips
from t4g_tracker.datasets.protocols import JointProtocol, PointProtocol, TrackingProtocol
from t4g_tracker.datasets.tapvid import PickledClips
from t4g_tracker.errors import DatasetError, suggestion


class AnnotatedClips(Protocol):
    """A data set on disk."""

    def names(self) -> list[str]:
        """List the clips, in the order of measurement."""
        ...

    def load(self, name: str) -> AnnotatedClip:
        """Read one clip as it is stored."""
        ...

    def visibility(self, name: str) -> np.ndarray:
        """Read and check the annotations of one clip, without its frames; (N, T) bool, True where visible."""
        ...


@dataclass(frozen=True)
class DatasetChoice:
    """Which clips are measured, and how."""

    dataset: DatasetName
    path: Path
    mode: QueryMode = "strided"
    view: View = field(default_factory=View)
    only: tuple[str, ...] = ()  # names of clips; empty: all

    @property
    def protocol(self) -> TrackingProtocol:
        if self.dataset == "badja":
            return JointProtocol()
        return PointProtocol(self.mode, knows_hidden=self.dataset == "synthetic-val")

    def open(self) -> AnnotatedClips:
        """Open the data set, without reading its clips.

        Raises:
            DatasetError: If it is missing or damaged.
        """
        if not self.path.exists():
            raise DatasetError(f"{self.path}: no such file or folder; check the path")
        if self.dataset in ("folder", "synthetic-val"):
            return FolderClips(self.path)
        if self.dataset == "badja":
            return BadjaClips(self.path)
        return PickledClips(self.path)

    def names(self, clips: AnnotatedClips) -> list[str]:
        """List the clips to measure.

        Raises:
            DatasetError: If the data set lacks a clip of ``only``.
        """
        names = clips.names()
        for name in self.only:
            if name not in names:
                meant = suggestion(name, names, f"it has {', '.join(names)}")
                raise DatasetError(f"{self.path}: has no clip {name}; {meant}")
        return list(dict.fromkeys(self.only)) or names

    def check(self, clips: AnnotatedClips, names: Sequence[str]) -> None:
        """Look at the annotations of clips before any is tracked; warn of those that cannot be used.

        Raises:
            DatasetError: If no clip can be used.
        """
        check_clips(names, lambda name: self.view.check(clips.visibility(name), f"{self.path}[{name}]"))

    def describe(self) -> str:
        """Describe data set, protocol, resolution and length for tables."""
        data = self.path.resolve().name if self.dataset == "folder" else self.dataset
        return f"{data}, {self.protocol.describe()}, {self.view.describe()}"
