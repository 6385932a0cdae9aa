"""The reliability diagram: the share of points found, against the confidence that they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t4g_tracker.diagnosis.reliability import ALL, BINS, VISIBLE, Reliability
from t4g_tracker.storage.files import atomic_write
from t4g_tracker.visualize.axes import AXES_GRID, AXES_INK, AXES_SOFT, legend_above, style_axes

if TYPE_CHECKING:  # matplotlib takes a second to load
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 20  # points of a bin in the diagram; the shares of fewer say little
_COLOURS = ("#e07b39", "#2f6fde")  # of flow alone, of the finished tracker


def write_diagram(path: Path, clips: Sequence[Mapping[str, Mapping[str, Reliability]]]) -> None:
    """Write ``reliability_figure`` as a png or svg, whichever the name ends in.

    Raises:
        OutputError: If the file cannot be written.
    """
    with atomic_write(path) as temporary:
        reliability_figure(clips).savefig(temporary, format=path.suffix[1:])


def reliability_figure(clips: Sequence[Mapping[str, Mapping[str, Reliability]]]) -> Figure:
    """Plot what is found against confidence, over all frames and over those that show the point.

    Bins of fewer than ``FEWEST`` points are left out.

    Args:
        clips: Of each clip, reliabilities by method and by what counts; the last method is the finished
            tracker.

    Returns:
        Lines of all clips together, thin ones of the finished tracker on each clip, and below how many
        points the finished tracker has in each bin.
    """
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(method for clip in clips for method in clip))
    figure = Figure(figsize=(9.0, 5.4), dpi=110, facecolor="white", layout="constrained")
    above, below = figure.subplots(2, 2, sharex=True, height_ratios=(4, 1))
    for column, kind in enumerate((ALL, VISIBLE)):
        axes = above[column]
        style_axes(axes, "" if column else "found, percent")
        axes.set_title(kind, loc="right", color=AXES_SOFT, fontsize=10)
        axes.plot([0, 100], [0, 100], color=AXES_SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlim=(0, 100), ylim=(0, 102))
        for clip in clips:
            if methods[-1] in clip:
                _plot_line(axes, clip[methods[-1]][kind], "#c3cad2", 0.9, None)
        for method, colour in zip(methods, _COLOURS, strict=False):
            joined = Reliability.joined(clip[method][kind] for clip in clips if method in clip)
            name = f"{method}: error {joined.calibration_error():.1f}"
            _plot_line(axes, joined, colour, 2.0, name)
        legend_above(axes)
        _plot_counts(below[column], joined)
        below[column].set_xlabel("confidence, percent", color=AXES_INK)
    below[0].set_ylabel("points", color=AXES_INK)
    return figure


def _plot_line(axes: Axes, reliability: Reliability, colour: str, width: float, name: str | None) -> None:
    wide = reliability.bins()
    shown = [
        (100 * confidence / points, 100 * found / points)
        for points, confidence, found in zip(wide.points, wide.confidence, wide.found, strict=True)
        if points >= FEWEST
    ]
    marker = None if name is None else "o"
    x, y = [confidence for confidence, _ in shown], [found for _, found in shown]
    axes.plot(x, y, color=colour, linewidth=width, marker=marker, markersize=4, label=name)


def _plot_counts(axes: Axes, reliability: Reliability) -> None:
    style_axes(axes, "")
    width = 100 / BINS
    middles = [(place + 0.5) * width for place in range(BINS)]
    axes.bar(middles, reliability.bins().points, width=0.9 * width, color=AXES_GRID, edgecolor=AXES_SOFT)
    axes.set_yscale("log")
