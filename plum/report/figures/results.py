"""Pictures of how good retrievers are. Numbers in, an ``<svg>`` element out; :mod:`drawing` has their looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from plum.report import drawing
from plum.report.drawing import BEHIND, INK, MUTED, PLUM, SHADES, Style, legend_above, legend_below, legend_height
from plum.report.wording import flops_text

_HEIGHT = 3.1  # inches

Point = tuple[float, float, float]
"""A value with both ends of its interval."""


def recall_curves(
    curves: Mapping[str, Sequence[tuple[int, float, float, float]]], styles: Mapping[str, Style], label: str
) -> Markup:
    """Recall over the length of the list, one line per retriever, bars for the intervals.

    Args:
        curves: retriever -> (k, value, low, high) with k ascending.
        styles: retriever -> how it is drawn.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        ticks = sorted({point[0] for points in curves.values() for point in points})
        for order, (name, points) in enumerate(curves.items()):
            # A few percent apart, so that the bars of two retrievers do not hide each other.
            shift = 1 + 0.02 * (order - (len(curves) - 1) / 2)
            _with_bars(axes, [k * shift for k, *_ in points], [p[1:] for p in points], name, styles[name], joined=True)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("places of the list (k)")
        axes.set_ylabel("Recall@k")
        legend_below(axes, len(curves))

    return drawing.render(draw, "recall", label, _HEIGHT + legend_height(len(curves)))


def difference_bars(entries: Sequence[tuple[str, Point, bool]], axis: str, label: str) -> Markup:
    """Paired differences as points with their intervals, beside a line at zero.

    Args:
        entries: (name, (difference, low, high), whether it is clear), top to bottom; what is not clear is grey.
        axis: what is on the x axis.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        for row, (_, (difference, low, high), clear) in enumerate(entries):
            colour = MUTED if not clear else PLUM if difference > 0 else BEHIND
            axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([difference], [row], color=colour, marker="o", markersize=6)
        axes.axvline(0, color=INK, linewidth=0.9)
        axes.set_yticks(range(len(entries)), [entry[0] for entry in entries])
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(axis)

    return drawing.render(draw, "difference", label, max(1.6, 0.9 + 0.32 * len(entries)))


def slice_dots(
    slices: Sequence[tuple[str, Mapping[str, Point]]], styles: Mapping[str, Style], axis: str, label: str, number: int
) -> Markup:
    """One metric of all retrievers side by side in each slice of the users or targets, bars for the intervals.

    Args:
        slices: (name, retriever -> (value, low, high)), left to right.
        styles: retriever -> how it is drawn.
        axis: what is on the y axis.
        label: what the picture says, for readers who cannot see it.
        number: unlike that of any other such picture of the page.

    Returns:
        An ``<svg>`` element.
    """
    names = [name for name in styles if any(name in points for _, points in slices)]

    def draw(axes: Axes) -> None:
        for order, name in enumerate(names):
            shift = 0.76 * ((order + 0.5) / len(names) - 0.5)
            places = [place for place, (_, points) in enumerate(slices) if name in points]
            chosen = [slices[place][1][name] for place in places]
            _with_bars(axes, [place + shift for place in places], chosen, name, styles[name], joined=False, size=5.5)
        for edge in range(1, len(slices)):
            axes.axvline(edge - 0.5, color=MUTED, linewidth=0.5, linestyle=":")
        axes.set_xticks(range(len(slices)), [name for name, _ in slices])
        axes.set_xlim(-0.5, len(slices) - 0.5)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        axes.set_ylabel(axis)
        legend_below(axes, len(names))

    return drawing.render(draw, f"slices{number}", label, _HEIGHT + legend_height(len(names)))


def prefix_lines(
    lines: Mapping[str, Sequence[float]], ticks: Sequence[str], styles: Mapping[str, Style], axis: str, label: str
) -> Markup:
    """Recall of prefixes of the Semantic ID, one line per retriever.

    Args:
        lines: retriever -> values, one per tick or fewer.
        ticks: names of the prefixes, shortest first.
        styles: retriever -> how it is drawn.
        axis: what is on the y axis.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        for name, values in lines.items():
            style = styles[name]
            axes.plot(range(len(values)), values, label=name, color=style.colour, marker=style.marker, **_weight(style))
        axes.set_xticks(range(len(ticks)), list(ticks))
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        axes.set_ylabel(axis)
        legend_below(axes, len(lines))

    return drawing.render(draw, "prefix", label, 2.6 + legend_height(len(lines)))


def cost_scatter(
    points: Mapping[str, tuple[float, Point]], styles: Mapping[str, Style], axis: str, label: str
) -> Markup:
    """One metric over the floating-point operations of the training, one point per retriever, on a logarithmic axis.

    Args:
        points: retriever -> (operations, (value, low, high)), operations above 0.
        styles: retriever -> how it is drawn.
        axis: what is on the y axis.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        for name, (operations, point) in points.items():
            _with_bars(axes, [operations], [point], name, styles[name], joined=False, size=7)
        axes.set_xscale("log")
        spent = [operations for operations, _ in points.values()]
        low, high = math.floor(math.log10(min(spent) / 1.5)), math.ceil(math.log10(max(spent) * 1.5))
        axes.set_xlim(10.0**low, 10.0**high)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda spent, _: flops_text(spent)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set_xlabel("floating-point operations of the training")
        axes.set_ylabel(axis)
        legend_below(axes, len(points))

    return drawing.render(draw, "cost", label, 2.6 + legend_height(len(points)))


def exposure_bars(
    rows: Mapping[str, Sequence[float]], classes: Sequence[str], reference_rows: int, label: str
) -> Markup:
    """Which share of the recommendations falls on each class of items, one bar of full length per row.

    Args:
        rows: name -> shares of the classes, which sum to 1; top to bottom.
        classes: from the most popular items to the least popular ones.
        reference_rows: how many rows at the top are no retriever; a line parts them from the others.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """
    # Popular items are dark; with fewer classes than shades, neighbours are further apart.
    shades = [SHADES[round(place * (len(SHADES) - 1) / max(1, len(classes) - 1))] for place in range(len(classes))]

    def draw(axes: Axes) -> None:
        left = [0.0] * len(rows)
        for place, (name, shade) in enumerate(zip(classes, reversed(shades), strict=True)):
            widths = [shares[place] for shares in rows.values()]
            axes.barh(range(len(rows)), widths, left=left, height=0.7, color=shade, linewidth=0, label=name)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        if 0 < reference_rows < len(rows):
            axes.axhline(reference_rows - 0.5, color=MUTED, linewidth=0.7)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25%", "50%", "75%", "100%"])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False)
        axes.set_xlabel("share of the places")
        legend_above(axes, len(classes))

    return drawing.render(draw, "exposure", label, 1.0 + 0.27 * len(rows))


def _with_bars(
    axes: Axes, x: Sequence[float], points: Sequence[Point], name: str, style: Style, joined: bool, size: float = 4.5
) -> None:
    """Points with the bars of their intervals, joined by a line or not."""
    low = [max(0.0, value - end) for value, end, _ in points]
    high = [max(0.0, end - value) for value, _, end in points]
    axes.errorbar(
        x,
        [value for value, _, _ in points],
        yerr=[low, high],
        label=name,
        color=style.colour,
        marker=style.marker,
        elinewidth=1,
        **(_weight(style) | {"markersize": size} | ({} if joined else {"linestyle": "none"})),
    )


def _weight(style: Style) -> dict[str, Any]:
    """Line, size and depth: what is in front is drawn heavier."""
    heavy: dict[str, Any] = {"linewidth": 2.0, "markersize": 4.5, "zorder": 4} if style.front else {}
    return {"linewidth": 1.3, "markersize": 4.0, "zorder": 3, "linestyle": style.line, **heavy}
