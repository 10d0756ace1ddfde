"""Pictures of the data. Numbers in, an ``<svg>`` element out; :mod:`drawing` has their looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from plum.report import drawing
from plum.report.drawing import INK, MUTED, PLUM, SHADES, SOFT, legend_above

_HEIGHT = 2.5  # inches
_DAY = 86_400
_PARTS = {"train": ("training", SHADES[1]), "valid": ("validation", SHADES[3]), "test": ("test", SHADES[4])}
"""Parts of a split in the order of time: what a reader calls them, and their colour."""


def long_tail(ranks: Sequence[int], counts: Sequence[int], label: str) -> Markup:
    """Training interactions of each item over its rank, most popular first, on two logarithmic axes.

    Args:
        ranks: ascending from 1; not every one of a large catalogue.
        counts: training interactions of the item at that rank; 0 is left out, since a logarithmic axis has none.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """
    seen = [(rank, count) for rank, count in zip(ranks, counts, strict=True) if count > 0]

    def draw(axes: Axes) -> None:
        x, y = [rank for rank, _ in seen], [count for _, count in seen]
        axes.fill_between(x, y, 0.5, color=SOFT, linewidth=0)
        axes.plot(x, y, color=PLUM, linewidth=1.4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left=1)
        axes.set_ylim(bottom=0.8)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("items, most popular first")
        axes.set_ylabel("training interactions")

    return drawing.render(draw, "longtail", label, _HEIGHT)


def history_lengths(edges: Sequence[int], counts: Sequence[int], longest_read: int | None, label: str) -> Markup:
    """How many test users have a history of which length.

    Args:
        edges: ascending, one more than there are counts; class i holds the lengths from edge i to below edge i + 1.
        counts: users of each class.
        longest_read: interactions that plum reads, the latest ones; None if unknown.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """
    names = [_class_name(low, high - 1) for low, high in pairwise(edges)]

    def draw(axes: Axes) -> None:
        axes.bar(range(len(counts)), counts, width=0.82, color=SOFT, edgecolor=PLUM, linewidth=0.8)
        axes.set_xticks(range(len(counts)), names)
        axes.tick_params(axis="x", length=0, rotation=45 if len(counts) > 7 else 0)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("interactions of the history")
        axes.set_ylabel("test users")
        if longest_read is not None and edges[0] <= longest_read < edges[-1] - 1:
            place = sum(edge <= longest_read for edge in edges) - 0.5
            axes.axvline(place, color=INK, linewidth=1, linestyle="--", label=f"plum reads the last {longest_read:,}")
            legend_above(axes, 1)

    return drawing.render(draw, "lengths", label, _HEIGHT)


def timeline(
    edges: Sequence[float], counts: Mapping[str, Sequence[int]], cuts: Mapping[str, float], label: str
) -> Markup:
    """Interactions over time, stacked by the part of the split that they are in, with the cuts between the parts.

    Args:
        edges: seconds since 1970, ascending, one more than there are classes.
        counts: train, valid, test -> interactions per class.
        cuts: what begins there -> seconds since 1970; empty where the parts are no periods.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """
    times = [edge / _DAY for edge in edges]  # matplotlib counts days since 1970

    def draw(axes: Axes) -> None:
        below = [0] * (len(edges) - 1)
        for part, (name, colour) in _PARTS.items():
            if part not in counts:
                continue
            above = [low + more for low, more in zip(below, counts[part], strict=True)]
            axes.stairs(above, times, baseline=below, fill=True, color=colour, linewidth=0, label=name)
            below = above
        for name, cut in cuts.items():
            axes.axvline(cut / _DAY, color=INK, linewidth=1, linestyle="--")
            axes.annotate(
                name,
                (cut / _DAY, 1),
                (-3, -3),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="right",
                va="top",
                rotation=90,
                fontsize=8.5,
                color=MUTED,
            )
        locator = AutoDateLocator(maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(times[0], times[-1])
        # Room above the bars for what the cuts are called.
        axes.set_ylim(0, max(below) * (1.4 if cuts else 1.05))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("interactions")
        legend_above(axes, 3)

    return drawing.render(draw, "timeline", label, _HEIGHT)


def _class_name(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
