"""Generated videos side by side, and the record that says which files are still good."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from t4g_tracker.errors import warn
from t4g_tracker.identity import differences
from t4g_tracker.outputs.generated import RECORD, read_record
from t4g_tracker.storage.files import file_digest, plain_values, write_json
from t4g_tracker.visualize.painting import INK, PAPER, resized, write_text
from t4g_tracker.visualize.tiles import GAP_PX, columns_across, tile_size

QUALITY = 10  # H.264's CRF: measures read these films, and compression must not show in them
SCREEN_PX = 1920  # largest width of films side by side
NAME_PX = 20  # height of the names above them
LABEL_PX = 32  # height of the strip that they stand in


def side_by_side(picture: np.ndarray, videos: Mapping[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Play the picture and the videos side by side, names above them; what is shorter holds its last frame.

    Args:
        picture: (H, W, 3) uint8, the picture that all start from.
        videos: By model, (T, H, W, 3) uint8 of the picture's aspect.

    Yields:
        Frames (H, W, 3) uint8 of one size, as many as the longest video has.
    """
    shown = {"input": picture[None], **videos}
    size = (picture.shape[0], picture.shape[1])
    across = columns_across(len(shown), (size[0] + LABEL_PX, size[1]))
    height, width = tile_size(size, (SCREEN_PX - GAP_PX) / across - GAP_PX)
    rows = -(-len(shown) // across)
    step = (height + LABEL_PX + GAP_PX, width + GAP_PX)
    sheet = np.full((rows * step[0], across * step[1] + GAP_PX, 3), PAPER, np.uint8)
    corners = [(i // across * step[0] + LABEL_PX, i % across * step[1] + GAP_PX) for i in range(len(shown))]
    for name, (y, x) in zip(shown, corners, strict=True):
        write_text(sheet, name, (x, y - LABEL_PX / 2), NAME_PX, INK, "lm", width)
    for frame in range(max(len(video) for video in shown.values())):
        film = sheet.copy()
        for video, (y, x) in zip(shown.values(), corners, strict=True):
            film[y : y + height, x : x + width] = resized(video[min(frame, len(video) - 1)], (height, width))
        yield film


@dataclass
class Record:
    """What ``generation.json`` says of each video, by which it is kept or made anew."""

    folder: Path
    run: dict[str, Any] = field(default_factory=dict)  # of the latest run
    videos: dict[str, Any] = field(default_factory=dict)  # by the path of the video
    films: dict[str, Any] = field(default_factory=dict)  # films side by side, by their paths

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read the record of a folder; an empty one if there is none, or it cannot be read."""
        record, path = cls(folder), folder / RECORD
        if not path.exists():
            return record
        try:
            found = read_record(folder)
            entries = [found["videos"], found["side_by_side"]]
        except (KeyError, TypeError):
            entries = []
        if not entries or not all(_is_table(entry) for entry in entries):
            warn(f"{path}: is damaged, so all videos are made anew; to keep them, stop and restore it")
            return record
        record.videos, record.films = entries
        return record

    def write(self, finished: bool) -> None:
        """Write the record; whole, or not at all."""
        said = {"finished": finished, **self.run, "videos": self.videos, "side_by_side": self.films}
        write_json(self.folder / RECORD, said)

    def faults(
        self, entry: Mapping[str, Any], settings: Mapping[str, Any], files: Sequence[str]
    ) -> list[str]:
        """List why what an entry records must be made anew, each reason in a few words; empty if it is good.

        Args:
            entry: Of ``videos`` or ``films``.
            settings: Those it must have been made with.
            files: Those that must be there as they were written.
        """
        recorded, now = entry.get("settings"), json.loads(json.dumps(plain_values(settings)))
        written = entry.get("files")
        if not isinstance(recorded, Mapping) or not isinstance(written, Mapping):
            return [f"{RECORD} does not say how it was made"]
        if "tracks" not in now:  # tracks that nobody asks for now are no reason to make a video anew
            recorded = {name: value for name, value in recorded.items() if name != "tracks"}
        changed = differences(recorded, now)
        if changed:
            return [f"it had {change}" for change in changed]
        faults = []
        for name in files:
            if name not in written:
                faults.append(f"it had no {name}")
            elif (found := file_digest(self.folder / name)) is None:
                faults.append(f"{name} is missing")
            elif found != written[name]:
                faults.append(f"{name} has changed")
        return faults

    def digests(self, files: Sequence[str]) -> dict[str, str | None]:
        """The digests of files, by their paths in the folder."""
        return {name: file_digest(self.folder / name) for name in files}


def _is_table(entries: Any) -> bool:
    return isinstance(entries, dict) and all(isinstance(entry, dict) for entry in entries.values())
