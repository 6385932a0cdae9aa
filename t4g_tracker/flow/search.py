"""Flow by DIS from several starts: each pixel begins with the one under which the frames look most alike.

A search from coarse to fine loses what moves far and fast. Over a gap of several frames a better start is at
hand: the flow to a frame in between, followed by the flow from there. It fails where that frame hides the
point, and there the search does not, so both are computed. Between neighbouring frames no motion is a start
too: a pole that stands still before a fast background is otherwise drawn along with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from t4g_tracker.datatypes import FlowFields
from t4g_tracker.flow.dis import LEAST_PX, dis_flow, possible_scale, refine_flow
from t4g_tracker.flow.fusion import best_flow, warped_back
from t4g_tracker.flow.resizing import enlarged, shrunk
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.threads import in_threads

Known = Callable[[int, int], Tensor | None]  # the flow from one frame to another, if it is there


def search_flows(
    frames: Tensor,
    pairs: list[tuple[int, int]],
    flows: Tensor,
    config: FlowConfig,
    over_gaps: FlowFields | None = None,
    given: bool = False,
) -> Iterator[int]:
    """Compute the flow of pairs of frames, each pair on one core, those of near frames first if need be.

    Each pixel starts from what a search at ``config.search_scale`` finds, from the flow by way of a frame in
    between, from no motion, or from what is given: the one that fits best. Then all are refined together.

    Args:
        frames: (T, 3, H, W) uint8.
        pairs: P pairs (from, to) of frame indices.
        flows: (P, 2, H, W) float16 displacements (dx, dy) in pixels of ``frames``; filled here.
        config: Of DIS, and which starts to take; with ``refine="dis"`` only those given, refined.
        over_gaps: Further flow of the same frames, to start from.
        given: Whether ``flows`` holds a start of each pair, such as that of a network.

    Yields:
        The number of pairs done, in the end P.
    """
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    patches = possible_scale(size, config.finest_scale), config.patch_stride
    scale = min(1.0, max(config.search_scale, LEAST_PX / min(size)))
    small_patches = possible_scale((int(scale * size[0]), int(scale * size[1])), patches[0]), patches[1]
    rows = {pair: row for row, pair in enumerate(pairs)}
    only_given = given and config.refine == "dis"

    def known(first: int, second: int) -> Tensor | None:
        if (first, second) in rows:
            return flows[rows[first, second]]
        if over_gaps is not None and over_gaps.has(first, second):
            return over_gaps.between(first, second)
        return None

    def store(row: int) -> None:
        first, second = pairs[row]
        here, there = frames[first], frames[second]
        starts = [refine_flow(here, there, flows[row], *patches)] if given else []
        if only_given:
            flows[row] = starts[0]
            return
        small, other = shrunk(torch.stack([here, there]), scale)
        searched = dis_flow(small, other, *small_patches)
        starts.append(enlarged(searched[None], size)[0])
        if config.still and abs(second - first) == 1:
            starts.append(torch.zeros_like(starts[0]))
        through = _through_another(first, second, known) if config.compose else None
        if through is not None:
            starts.append(through)
        if len(starts) == 1 and searched.shape[-2:] == size:  # there is nothing to choose or to refine
            flows[row] = searched
            return
        start = best_flow(here, there, torch.stack(starts))
        flows[row] = refine_flow(here, there, start, *patches, coarsest_scale=1)

    done = 0
    levels = _by_distance(pairs) if config.compose and not only_given else [list(range(len(pairs)))]
    for level in levels:
        for _ in in_threads(store, level):
            done += 1
            yield done


def _by_distance(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """The rows of pairs, those with the same number of frames between them together, nearest first."""
    levels: dict[int, list[int]] = {}
    for row, (first, second) in enumerate(pairs):
        levels.setdefault(abs(second - first), []).append(row)
    return [levels[distance] for distance in sorted(levels)]


def _through_another(first: int, second: int, known: Known) -> Tensor | None:
    """Flow (2, H, W) from one frame to another by way of one in between, if both parts are known.

    Out from a query frame, whose flow leads to few of the far ones, that is the last before with such flow;
    back from a far frame it is one near the query frame, if any.
    """
    step = 1 if second > first else -1
    near_the_second = [second - step * by for by in (1, 2, 4, 8)]
    for middle in ((first + second) // 2, *near_the_second, first + step):
        if not min(first, second) < middle < max(first, second):
            continue
        begin, end = known(first, middle), known(middle, second)
        if begin is not None and end is not None:
            return composed(begin.float(), end.float())
    return None


def composed(first: Tensor, second: Tensor) -> Tensor:
    """Follow one flow (2, H, W), and from where it leads the other; beyond its edges that is as at them."""
    return first + warped_back(second, first)
