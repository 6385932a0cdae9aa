"""A plot of the adaptation's progress: losses, and how well held-out trajectories are matched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t4g_tracker.storage.files import atomic_write
from t4g_tracker.visualize.axes import AXES_INK, AXES_SOFT, legend_above, style_axes

if TYPE_CHECKING:  # matplotlib takes a second to load, and most uses of this package plot nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]

_LABEL_PERCENT = 7  # height of a label beside the measures
_LOSS_COLOURS = ("#2f6fde", "#e07b39", "#2e9e6b", "#b24fc4", "#c9a227", "#5a6b7b")


def plot_curve(path: str | Path, history: History) -> None:
    """Write ``curve_figure`` as a png.

    Raises:
        OutputError: If the file cannot be written.
    """
    with atomic_write(path) as temporary:
        curve_figure(history).savefig(temporary, format="png")


def curve_figure(history: History) -> Figure:
    """Plot the losses on a logarithmic scale and the measures in percent, against the step.

    Args:
        history: Rows with ``step``, and any of ``loss``, ``losses`` (by name),
            ``held_out_2px`` (share in 0..1 of held-out pairs matched within 2 px) and
            ``delta_avg`` (percent). An entry that a row lacks, or that is None or not
            finite, is left out; a measure that no row has is not plotted.

    Returns:
        Losses at the top and, if there are any, measures below.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    losses = _loss_series(history)
    measures = {
        "held-out trajectories within 2 px": _series(history, lambda row: row.get("held_out_2px"), 100),
        "delta_avg": _series(history, lambda row: row.get("delta_avg")),
    }
    measures = {name: series for name, series in measures.items() if series[0]}
    panels = 1 + bool(measures)
    figure = Figure(figsize=(8.4, 0.5 + 2.7 * panels), dpi=130, facecolor="white", layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    _plot_losses(axes[0], losses)
    if measures:
        _plot_measures(axes[1], measures)
    axes[-1].set_xlabel("step", color=AXES_INK)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure


Series = tuple[list[float], list[float]]


def _series(history: History, value_of: Callable[[Mapping[str, Any]], Any], scale: float = 1) -> Series:
    """Collect steps and scaled values of the rows that have a finite value."""
    pairs = [(float(row["step"]), value_of(row)) for row in history]
    known = [(step, scale * value) for step, value in pairs if value is not None and math.isfinite(value)]
    return [step for step, _ in known], [value for _, value in known]


def _loss_series(history: History) -> dict[str, Series]:
    """Collect the total loss and, if it has several parts, each part; values above zero only."""
    names = list(dict.fromkeys(name for row in history for name in (row.get("losses") or {})))

    def positive(value: float | None) -> float | None:
        return value if value is not None and value > 0 else None

    def part(name: str) -> Series:
        return _series(history, lambda row: positive((row.get("losses") or {}).get(name)))

    series = {"total": _series(history, lambda row: positive(row.get("loss")))}
    if len(names) > 1 or not series["total"][0]:
        series |= {name: part(name) for name in names}
    return {name: values for name, values in series.items() if values[0]}


def _plot_losses(axes: Axes, losses: Mapping[str, Series]) -> None:
    from matplotlib.ticker import FuncFormatter, LogFormatter

    style_axes(axes, "loss")
    if not losses:
        axes.text(0.5, 0.5, "no loss was recorded", ha="center", color=AXES_SOFT, transform=axes.transAxes)
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    parts = iter(_LOSS_COLOURS * (1 + len(losses) // len(_LOSS_COLOURS)))
    for name, (steps, values) in losses.items():
        total = name == "total"
        colour = AXES_INK if total else next(parts)
        _plot_line(axes, steps, values, colour, name, 1.9 if total else 1.2)
    if len(losses) > 1:
        legend_above(axes)


def _plot_measures(axes: Axes, measures: Mapping[str, Series]) -> None:
    style_axes(axes, "percent")
    heights = _apart([values[-1] for _, values in measures.values()])
    for (name, (steps, values)), colour, height in zip(
        measures.items(), ("#2e9e6b", "#2f6fde"), heights, strict=False
    ):
        _plot_line(axes, steps, values, colour, name, 1.9)
        axes.annotate(
            f"{values[-1]:.1f}",
            (steps[-1], height),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
    axes.set_ylim(0, 104)
    legend_above(axes)


def _apart(values: Sequence[float]) -> list[float]:
    """Heights for labels beside these percentages: the same, but no two closer than a letter is high."""
    heights, lowest = list(values), -math.inf
    for place in sorted(range(len(values)), key=lambda place: values[place]):
        heights[place] = lowest = max(values[place], lowest)
        lowest += _LABEL_PERCENT
    return heights


def _plot_line(
    axes: Axes, steps: list[float], values: list[float], colour: str, name: str, width: float
) -> None:
    marker = "o" if len(steps) <= 30 else None
    axes.plot(steps, values, color=colour, label=name, linewidth=width, marker=marker, markersize=3.2)
