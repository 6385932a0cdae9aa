"""A picture of a clip's worst tracks: frames with the true and the found position, cost maps beneath."""

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
    """What the finished tracker found on a clip, and what it should have found; original pixels."""

    video: Video
    queries: QueryPoints
    tracks: Tracks  # N
    truth: Tracks  # N, the true track of each query
    features: FeatureGrid  # that it matches
    peaks: Tensor  # (N, T, K, 2) of the cost maps, from ``match_peaks``


def worst_picture(tracked: Tracked, which: Sequence[int]) -> np.ndarray:
    """Paint the tracks ``which``, each as a row of frames above a row of cost maps: (H, W, 3) uint8.

    A cost map is dark blue at similarity 0 or less, yellow at 1.
    """
    size = tile_size(shown_size(tracked.video), PICTURE_PX / COLUMNS - GAP_PX)
    strips = [_strip(tracked, index, size) for index in which]
    return np.concatenate([*strips, _legend(strips[0].shape[1], tracked.queries, tracked.video, size)])


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


def _strip(tracked: Tracked, index: int, size: Size) -> np.ndarray:
    """Paint one track: its name, then a column for each frame."""
    only, video = torch.tensor([index]), tracked.video
    queries, tracks = tracked.queries.subset(only), tracked.tracks.subset(only)
    truth = tracked.truth.subset(only)
    distance, seen = evaluation_distance(tracks.xy, truth.xy, video.size)[0], truth.visibility[0]
    painter, home = Painter.make(video, queries, size, truth, DIM), int(queries.frame)
    marks = painter.marks(tracks)
    scene = Scene.of(tracked.features, queries, video.size, MatchingConfig())  # for the similarity alone
    vectors = scene.queries()
    peaks = positions(tracked.peaks[index], video.size, size)
    strip = _paper(2 * LINE_PX + 2 * (size[0] + GAP_PX), size)
    others = seen & (torch.arange(len(seen)) != home)
    title = f"{queries.names[0]}: {float(distance[others].mean()):.1f} px off on average, of 256"
    write_text(strip, title, (GAP_PX, LINE_PX / 2), TEXT_PX, INK, "lm", strip.shape[1])
    for column, frame in enumerate(shown_columns(distance, seen, home, COLUMNS)):
        left, width = column * (size[1] + GAP_PX), size[1]
        similarity = cost_volume(vectors, scene.image(frame))[0].cpu()
        told = "query" if frame == home else f"{distance[frame]:.1f} px" if seen[frame] else "hidden"
        caption = f"frame {video.start_frame + frame}: {told}, best match {float(similarity.max()):.2f}"
        write_text(strip, caption, (left + width / 2, 1.5 * LINE_PX), TEXT_PX, SOFT_INK, "mm", width)
        above = _tile(painter, painter.background(frame), marks, frame)
        beneath = _heat(similarity, size)
        _paint_peaks(beneath, peaks[frame])
        column_of = strip[2 * LINE_PX :, left : left + width]
        column_of[: size[0]] = above
        column_of[size[0] + GAP_PX :][: size[0]] = _tile(painter, beneath, marks, frame)
    return strip


def _paper(height: int, tile: Size) -> np.ndarray:
    return np.full((height, COLUMNS * (tile[1] + GAP_PX), 3), PAPER, np.uint8)


def _tile(painter: Painter, background: np.ndarray, marks: Marks, frame: int) -> np.ndarray:
    """Paint the found position, and a white ring around the true one."""
    tile = painter.tile(background, marks, frame)
    assert painter.truth is not None
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


def _legend(width: int, queries: QueryPoints, video: Video, size: Size) -> np.ndarray:
    """Explain the marks on one line."""
    legend = np.full((LINE_PX + GAP_PX, width, 3), PAPER, np.uint8)
    painter = Painter.make(video, queries.subset(torch.tensor([0])), size, None, DIM)
    found, x, y = painter.colours, float(GAP_PX), legend.shape[0] / 2
    for text, colour, filled, radius in (
        ("found, told visible", found, _VISIBLE, painter.radius),
        ("found, told hidden", found, _HIDDEN, painter.radius),
        ("true position, where visible", _WHITE, _HIDDEN, painter.radius + RING_PX),
        ("best matches", _CYAN, _VISIBLE, PEAK_PX),
    ):
        paint_points(legend, np.array([[x + TEXT_PX / 2, y]]), filled, colour, radius)
        write_text(legend, text, (x + 1.5 * TEXT_PX, y), TEXT_PX, SOFT_INK)
        x += 3 * TEXT_PX + text_width(text, TEXT_PX)
    return legend
