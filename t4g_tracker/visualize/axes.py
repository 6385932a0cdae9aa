"""How plots look: colours, axes and legends that all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # matplotlib takes a second to load, and most uses of this package plot nothing
    from matplotlib.axes import Axes

AXES_INK, AXES_SOFT, AXES_GRID = "#22262b", "#7a828c", "#e6e8eb"


def style_axes(axes: Axes, label: str) -> None:
    """Label the values, and set grid, ticks and frame."""
    axes.set_ylabel(label, color=AXES_INK)
    axes.grid(True, which="major", color=AXES_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=AXES_SOFT, which="both", labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(AXES_GRID)


def legend_above(axes: Axes) -> None:
    """Name the lines above the axes."""
    axes.legend(
        frameon=False, fontsize=9, labelcolor=AXES_INK, ncols=4, loc="lower left", bbox_to_anchor=(-0.01, 1.0)
    )
