"""Filmstrips of single tracks: frames with the true and the found position, cost maps beneath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Tracks, Video
from t4g_tracker.matching.cost_maps import cost_volume
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.metrics import evaluation_distance
from t4g_tracker.tracking.scene import Scene
from t4g_tracker.visualize.painting import (
    INK,
    PAPER,
    SOFT_INK,
    paint_points,
    positions,
    resized,
    text_width,
    write_text,
)
from t4g_tracker.visualize.tiles import GAP_PX, Marks, Painter, shown_size, tile_size

PICTURE_PX = 2400  # largest width of the picture
COLUMNS = 6  # the query frame, and five on one side of it
TEXT_PX = 22  # height of letters
LINE_PX = TEXT_PX + GAP_PX
DIM = 1.0  # brightness of the frames
PEAK_PX = 3.0  # radius of the mark of a peak
RING_PX = 3.0  # from the mark of the found position to the ring around the true one
_BLACK, _WHITE = np.full((1, 3), 10, np.uint8), np.full((1, 3), 255, np.uint8)
_CYAN = np.array([[90, 230, 255]], np.uint8)
_VISIBLE, _HIDDEN = np.array([True]), np.array([False])


@dataclass(frozen=True)
class Tracked:
    """What the finished tracker found on a clip, and what is known besides; original pixels."""

    video: Video
    queries: QueryPoints
    tracks: Tracks  # N
    truth: Tracks | None  # N, the true track of each query, if known
    features: FeatureGrid | None  # that it matches, if at hand
    peaks: Tensor | None  # (N, T, K, 2) of the cost maps, from ``match_peaks``, with the features


def worst_picture(tracked: Tracked, which: Sequence[int]) -> np.ndarray:
    """Paint the tracks ``which``, whose truth is known, each as ``filmstrip`` does: (H, W, 3) uint8."""
    assert tracked.truth is not None
    strips = []
    for index in which:
        home, seen = int(tracked.queries.frame[index]), tracked.truth.visibility[index]
        distance = evaluation_distance(tracked.tracks.xy[index], tracked.truth.xy[index], tracked.video.size)
        others = seen & (torch.arange(len(seen)) != home)
        title = (
            f"{tracked.queries.names[index]}: {float(distance[others].mean()):.1f} px off on average, of 256"
        )
        strips.append(filmstrip(tracked, index, shown_columns(distance, seen, home, COLUMNS), title))
    return np.concatenate([*strips, legend(tracked)])


def shown_columns(distance: Tensor, seen: Tensor, home: int, columns: int) -> list[int]:
    """Choose the query frame, and frames evenly spaced from it towards the end of the video that is worse.

    They end with the last frame that shows the point, if any does.

    Args:
        distance: (T,) distance from the truth.
        seen: (T,) bool, where the point is truly visible; elsewhere its distance means nothing.
        home: The query frame.
        columns: How many frames at most, 2 or more.
    """
    last, error = len(distance) - 1, torch.where(seen, distance, 0)
    ahead = home < last and (home == 0 or bool(error[home + 1 :].sum() >= error[:home].sum()))
    outwards = list(range(home + 1, last + 1) if ahead else range(home - 1, -1, -1))
    shown = seen[outwards].nonzero().flatten().tolist()
    outwards = outwards[: shown[-1] + 1] if shown else outwards
    steps = torch.linspace(-1, len(outwards) - 1, min(columns, len(outwards) + 1))[1:]
    return [home, *(outwards[step] for step in steps.round().long().tolist())]


def filmstrip(tracked: Tracked, index: int, frames: Sequence[int], title: str) -> np.ndarray:
    """Paint one track: a title, then a column for each frame, with its cost map beneath.

    Without features there are no cost maps. A cost map is dark blue at similarity 0 or less, yellow at 1.

    Args:
        tracked: The clip.
        index: Of the track.
        frames: At most ``COLUMNS``, counted from 0.
        title: One line.

    Returns:
        (H, W, 3) uint8, as wide as every other filmstrip of the clip.
    """
    only, video, size = torch.tensor([index]), tracked.video, _tile_size(tracked)
    queries, tracks = tracked.queries.subset(only), tracked.tracks.subset(only)
    truth = None if tracked.truth is None else tracked.truth.subset(only)
    painter = Painter.make(video, queries, size, truth, DIM)
    marks = painter.marks(tracks)
    rows = 1 if tracked.features is None else 2
    strip = _paper(2 * LINE_PX + rows * (size[0] + GAP_PX), size)
    write_text(strip, title, (GAP_PX, LINE_PX / 2), TEXT_PX, INK, "lm", strip.shape[1])
    maps = _CostMaps.of(tracked, index)
    for column, frame in enumerate(frames):
        left, width = column * (size[1] + GAP_PX), size[1]
        caption = f"frame {video.start_frame + frame}: {_told(tracked, index, frame)}"
        column_of = strip[2 * LINE_PX :, left : left + width]
        column_of[: size[0]] = _tile(painter, painter.background(frame), marks, frame)
        if maps is not None:
            similarity = maps.similarity(frame)
            caption += f", best match {float(similarity.max()):.2f}"
            beneath = _heat(similarity, size)
            _paint_peaks(beneath, positions(maps.peaks[frame], video.size, size))
            column_of[size[0] + GAP_PX :][: size[0]] = _tile(painter, beneath, marks, frame)
        write_text(strip, caption, (left + width / 2, 1.5 * LINE_PX), TEXT_PX, SOFT_INK, "mm", width)
    return strip


def _tile_size(tracked: Tracked) -> Size:
    return tile_size(shown_size(tracked.video), PICTURE_PX / COLUMNS - GAP_PX)


def _told(tracked: Tracked, index: int, frame: int) -> str:
    """Say how a track does in a frame, in a word or two."""
    if frame == int(tracked.queries.frame[index]):
        return "query"
    if tracked.truth is None:
        return "told visible" if tracked.tracks.visibility[index, frame] else "told hidden"
    if not tracked.truth.visibility[index, frame]:
        return "hidden"
    found, true = tracked.tracks.xy[index, frame], tracked.truth.xy[index, frame]
    return f"{float(evaluation_distance(found, true, tracked.video.size)):.1f} px"


@dataclass(frozen=True)
class _CostMaps:
    """The cost maps of one query point."""

    scene: Scene
    vectors: Tensor  # (1, C)
    peaks: Tensor  # (T, K, 2) original pixels

    @classmethod
    def of(cls, tracked: Tracked, index: int) -> _CostMaps | None:
        if tracked.features is None or tracked.peaks is None:
            return None
        queries = tracked.queries.subset(torch.tensor([index]))
        scene = Scene.of(
            tracked.features, queries, tracked.video.size, MatchingConfig()
        )  # for similarity alone
        return cls(scene, scene.queries(), tracked.peaks[index])

    def similarity(self, frame: int) -> Tensor:
        """(h, w) of one frame."""
        return cost_volume(self.vectors, self.scene.image(frame))[0].cpu()


def _paper(height: int, tile: Size) -> np.ndarray:
    return np.full((height, COLUMNS * (tile[1] + GAP_PX), 3), PAPER, np.uint8)


def _tile(painter: Painter, background: np.ndarray, marks: Marks, frame: int) -> np.ndarray:
    """Paint the found position, and a white ring around the true one, if known."""
    tile = painter.tile(background, marks, frame)
    if painter.truth is None:
        return tile
    for colour, more in ((_BLACK, RING_PX + 1.5), (_WHITE, RING_PX)):
        paint_points(tile, painter.truth[:, frame], _HIDDEN, colour, painter.radius + more)
    return tile


def _paint_peaks(picture: np.ndarray, peaks: np.ndarray) -> None:
    """Paint a small dot at each peak (K, 2)."""
    for peak in peaks:
        paint_points(picture, peak[None], _VISIBLE, _CYAN, PEAK_PX)


def _heat(similarity: Tensor, size: Size) -> np.ndarray:
    """Paint a cost map (h, w) at the size of a tile: (H, W, 3) uint8."""
    grey = (similarity.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    coloured: np.ndarray = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)
    return resized(coloured, size)


def legend(tracked: Tracked) -> np.ndarray:
    """Explain the marks of filmstrips on one line, as wide as they are: (H, W, 3) uint8."""
    size = _tile_size(tracked)
    picture = _paper(LINE_PX + GAP_PX, size)
    painter = Painter.make(tracked.video, tracked.queries.subset(torch.tensor([0])), size, None, DIM)
    found, x, y = painter.colours, float(GAP_PX), picture.shape[0] / 2
    entries = [
        ("found, told visible", found, _VISIBLE, painter.radius),
        ("found, told hidden", found, _HIDDEN, painter.radius),
    ]
    if tracked.truth is not None:
        entries.append(("true position, where visible", _WHITE, _HIDDEN, painter.radius + RING_PX))
    if tracked.features is not None:
        entries.append(("best matches", _CYAN, _VISIBLE, PEAK_PX))
    for text, colour, filled, radius in entries:
        paint_points(picture, np.array([[x + TEXT_PX / 2, y]]), filled, colour, radius)
        write_text(picture, text, (x + 1.5 * TEXT_PX, y), TEXT_PX, SOFT_INK)
        x += 3 * TEXT_PX + text_width(text, TEXT_PX)
    return picture
