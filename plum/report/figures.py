"""The pictures of a report as inline SVG. Numbers in, an ``<svg>`` element out; :mod:`drawing` has their looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from plum.report.drawing import BEHIND, INK, MUTED, PLUM, Style, legend_below, legend_height, render, styles_of
from plum.report.wording import flops_text

_HEIGHT = 3.1  # inches
_MOST_POINTS = 400
_SHADES = ("#ecd3e4", "#d8a9ca", "#bd78aa", "#994583", "#5c1244")  # light to dark: read without any colour too

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

    return render(draw, "recall", label, _HEIGHT + legend_height(len(curves)))


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

    return render(draw, "difference", label, max(1.6, 0.9 + 0.32 * len(entries)))


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

    return render(draw, f"slices{number}", label, _HEIGHT + legend_height(len(names)))


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

    return render(draw, "prefix", label, 2.6 + legend_height(len(lines)))


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

    return render(draw, "cost", label, 2.6 + legend_height(len(points)))


def training_curve(
    lines: Mapping[str, Sequence[tuple[float, float]]], axis: str, label: str, identifier: str
) -> Markup:
    """Loss or metrics over the steps of a stage, one line per quantity; long logs are thinned evenly.

    Args:
        lines: quantity -> (step, value) in order.
        axis: what is on the y axis.
        label: what the picture says, for readers who cannot see it.
        identifier: unlike that of any other picture of the page.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        for name, style in styles_of(list(lines), next(iter(lines), "")).items():
            points = _thinned(lines[name])
            axes.plot(
                [step for step, _ in points],
                [value for _, value in points],
                label=name,
                color=style.colour,
                linestyle=style.line,
                linewidth=1.6,
                marker=style.marker if len(points) <= 20 else None,
                markersize=4,
            )
        axes.set_xlabel("step")
        axes.set_ylabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        if len(lines) > 4:
            legend_below(axes, len(lines))
        elif len(lines) > 1:
            axes.legend(handlelength=2.2)

    return render(draw, identifier, label, 2.5 + (legend_height(len(lines)) if len(lines) > 4 else 0))


def codebook_usage(levels: Sequence[tuple[int, float, float]], label: str) -> Markup:
    """Each level's codes that some item has, and how evenly items spread over them.

    Args:
        levels: (size, usage as a share, perplexity) from the first level on.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        for row, (size, usage, perplexity) in enumerate(levels):
            axes.barh(row, 1.0, height=0.62, color="#e8e4ec", label="codes of the level" if row == 0 else None)
            axes.barh(row, usage, height=0.62, color="#c98fb8", label="in use" if row == 0 else None)
            even = "perplexity / size" if row == 0 else None
            axes.barh(row, perplexity / size if size else 0.0, height=0.24, color=PLUM, label=even)
        axes.set_yticks(range(len(levels)), [f"level {row} ({level[0]:,})" for row, level in enumerate(levels)])
        axes.set_ylim(len(levels) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25%", "50%", "75%", "100%"])
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of the level's codes")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, handlelength=1.2, columnspacing=1.2)

    return render(draw, "codebook", label, max(1.7, 1.1 + 0.36 * len(levels)))


def code_spread(counts: Sequence[int], label: str, level: int = 0) -> Markup:
    """How many items each code of a level has, codes from the fullest to the emptiest.

    Args:
        counts: items per code, in any order, empty codes as 0.
        label: what the picture says, for readers who cannot see it.
        level: whose codes they are.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        heights, even = sorted(counts, reverse=True), sum(counts) / len(counts)
        axes.stairs(heights, range(len(heights) + 1), fill=True, color="#c98fb8", label="items of a code")
        axes.stairs(heights, range(len(heights) + 1), color=PLUM, linewidth=0.8)
        axes.axhline(even, color=INK, linewidth=1, linestyle="--", label=f"if spread evenly: {even:,.1f}")
        axes.set_xlim(0, len(heights))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(f"codes of level {level}, fullest first")
        axes.set_ylabel("items")
        axes.legend(loc="upper right")

    return render(draw, f"spread{level}", label, 2.4)


def first_two_levels(counts: Sequence[Sequence[int]], label: str) -> Markup:
    """A heat map of how the items of each first code divide among second codes; white where none are left.

    Shades stand for at most five classes of counts, each about as many times larger than the one before.

    Args:
        counts: of :func:`plum.sid.quality.tree`, a row per first code; some item somewhere.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """
    table = np.asarray(counts)
    rows, columns = table.shape
    edges = np.unique(np.ceil(np.geomspace(1, table.max() + 1, len(_SHADES) + 1))).astype(int).tolist()
    shades = _SHADES[1 - len(edges) :]  # the darkest

    def draw(axes: Axes) -> None:
        for low, high, shade in zip(edges[:-1], edges[1:], shades, strict=True):
            name = f"{low:,}" if high == low + 1 else f"{low:,}–{high - 1:,}"
            # One path for all squares of a shade: thousands of elements would make the page slow.
            squares = _squares((table >= low) & (table < high))
            axes.add_patch(PathPatch(squares, facecolor=shade, linewidth=0, label=name))
        axes.set_xlim(0, columns)
        axes.set_ylim(rows, 0)
        axes.grid(visible=False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(True)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("its codes of level 1, fullest first")
        axes.set_ylabel("codes of level 0, fullest first")
        axes.legend(
            title="items",
            alignment="left",
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=len(_SHADES),
            handlelength=1.0,
            columnspacing=1.0,
            handletextpad=0.5,
            borderpad=0.0,
        )

    return render(draw, "levels", label, 4.2)


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


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``_MOST_POINTS`` points evenly over the sequence, the first and the last among them."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (_MOST_POINTS - 1))] for i in range(_MOST_POINTS)]


def _squares(mask: np.ndarray) -> Path:
    """The outline of the unit squares (rows, columns) that hold True, those side by side in one piece."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (row, left), (_, right) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    corners = [(left, row), (right, row), (right, row + 1), (left, row + 1), (left, row)]
    points = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(row))
    return Path(points.astype(float), codes)
