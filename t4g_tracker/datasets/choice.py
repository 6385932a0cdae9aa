"""Annotated data sets behind one interface: names of clips, a clip by its name, a protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from t4g_tracker.choices import DatasetName, QueryMode
from t4g_tracker.datasets.annotated import AnnotatedClip, View
from t4g_tracker.datasets.badja import BadjaClips
from t4g_tracker.datasets.frames_and_tracks import FolderClips
from t4g_tracker.datasets.protocols import JointProtocol, PointProtocol, TrackingProtocol
from t4g_tracker.datasets.tapvid import PickledClips
from t4g_tracker.errors import DatasetError, suggestion


class AnnotatedClips(Protocol):
    """A data set on disk."""

    def names(self) -> list[str]:
        """The clips, in the order they are measured in."""
        ...

    def load(self, name: str) -> AnnotatedClip:
        """One clip, as it is stored."""
        ...


@dataclass(frozen=True)
class DatasetChoice:
    """Which clips are measured, and how."""

    dataset: DatasetName
    path: Path
    mode: QueryMode = "strided"
    view: View = field(default_factory=View)
    wanted: tuple[str, ...] = ()  # names of clips; empty: all

    @property
    def protocol(self) -> TrackingProtocol:
        return JointProtocol() if self.dataset == "badja" else PointProtocol(self.mode)

    def open(self) -> AnnotatedClips:
        """Look into the data set, without reading its clips.

        Raises:
            DatasetError: If it is not there, damaged, or lacks a wanted clip.
        """
        if not self.path.exists():
            raise DatasetError(f"{self.path}: no such file or folder; check the path")
        if self.dataset in ("folder", "synthetic-val"):
            return FolderClips(self.path)
        if self.dataset == "badja":
            return BadjaClips(self.path)
        return PickledClips(self.path)

    def names(self, clips: AnnotatedClips) -> list[str]:
        """The names to measure.

        Raises:
            DatasetError: If a wanted one is missing.
        """
        names = clips.names()
        for name in self.wanted:
            if name not in names:
                raise DatasetError(f"{self.path}: has no clip {name}; {suggestion(name, names, 'it has')}")
        return list(dict.fromkeys(self.wanted)) or names

    def describe(self) -> str:
        """In words, for tables: data set, protocol, resolution and length."""
        data = self.path.resolve().name if self.dataset == "folder" else self.dataset
        return f"{data}, {self.protocol.describe()}, {self.view.describe()}"
