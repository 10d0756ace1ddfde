"""The pictures of a report as inline SVG: text stays text, no ids clash, the same numbers give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK, MUTED, GRID, PLUM = "#1f1b24", "#5f5a66", "#e3e0e6", "#7a1f5c"
# Distinct also without colour, by marker; dark enough on white.
_COLOURS = ("#1d6a86", "#a8620b", "#3f6b35", "#59529a", "#9c2f2f", "#4d4d4d")
_MARKERS = ("s", "^", "D", "v", "P", "X")
_WIDTH, _HEIGHT = 4.8, 2.9  # inches; at 460 CSS pixels wide, 9 pt comes out as 12 pixels
_MOST_POINTS = 400

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "plum",
    "text.parse_math": False,  # a title with two dollar signs is no formula
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same on every machine
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def recall_curves(
    curves: Mapping[str, Sequence[tuple[int, float, float, float]]], highlight: str, label: str
) -> Markup:
    """Recall over the length of the list, one line per retriever, bars for the intervals.

    Args:
        curves: retriever -> (k, value, low, high) with k ascending.
        highlight: the retriever drawn in front, in the project's colour.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        ticks = sorted({point[0] for points in curves.values() for point in points})
        for order, (name, colour, marker) in enumerate(_styles(list(curves), highlight)):
            k, value, low, high = zip(*curves[name], strict=True)
            front = name == highlight
            bars = [[v - x for v, x in zip(value, low, strict=True)], [x - v for v, x in zip(value, high, strict=True)]]
            axes.errorbar(
                # A few percent apart, so that the bars of two retrievers do not hide each other.
                [x * (1 + 0.025 * (order - (len(curves) - 1) / 2)) for x in k],
                value,
                yerr=[[max(0.0, x) for x in side] for side in bars],
                label=name,
                color=colour,
                marker=marker,
                markersize=4.5 if front else 4,
                linewidth=2 if front else 1.3,
                elinewidth=1,
                zorder=4 if front else 3,
            )
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("places of the list (k)")
        axes.set_ylabel("Recall@k")
        axes.legend(loc="upper left", handlelength=1.6)

    return _render(draw, "recall", label)


def difference_bars(entries: Sequence[tuple[str, float, float, float]], axis: str, label: str) -> Markup:
    """Paired differences as points with their intervals, beside a line at zero.

    Args:
        entries: (name, difference, low, high), top to bottom.
        axis: what is on the x axis.
        label: what the picture says, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        for row, (_, difference, low, high) in enumerate(entries):
            colour = PLUM if low > 0 else _COLOURS[4] if high < 0 else MUTED
            axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([difference], [row], color=colour, marker="o", markersize=6)
        axes.axvline(0, color=INK, linewidth=0.9)
        axes.set_yticks(range(len(entries)), [entry[0] for entry in entries])
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(axis)

    return _render(draw, "difference", label, height=max(1.6, 0.9 + 0.4 * len(entries)))


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
        for name, colour, marker in _styles(list(lines), next(iter(lines), "")):
            points = _thinned(lines[name])
            axes.plot(
                [step for step, _ in points],
                [value for _, value in points],
                label=name,
                color=colour,
                linewidth=1.6,
                marker=marker if len(points) <= 20 else None,
                markersize=4,
            )
        axes.set_xlabel("step")
        axes.set_ylabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        if len(lines) > 1:
            axes.legend(handlelength=1.6)

    return _render(draw, identifier, label, height=2.5)


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

    return _render(draw, "codebook", label, height=max(1.7, 1.1 + 0.36 * len(levels)))


def _styles(names: list[str], highlight: str) -> list[tuple[str, str, str]]:
    """(name, colour, marker) in order; the highlighted name gets the project's colour and a dot."""
    others = iter(range(len(names)))
    result = []
    for name in names:
        number = -1 if name == highlight else next(others)
        colour = PLUM if number < 0 else _COLOURS[number % len(_COLOURS)]
        result.append((name, colour, "o" if number < 0 else _MARKERS[number % len(_MARKERS)]))
    return result


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``_MOST_POINTS`` points evenly over the sequence, the first and the last among them."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (_MOST_POINTS - 1))] for i in range(_MOST_POINTS)]


def _render(draw: Callable[[Axes], None], identifier: str, label: str, height: float = _HEIGHT) -> Markup:
    """Draw on a figure of its own (no pyplot, no global figure) and return it as an element for inline use."""
    with matplotlib.rc_context(cast(Any, _STYLE)):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # an XML declaration has no place inside HTML
    # Metadata names outside addresses, and the style sheet would reach out of the picture into the page.
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head) + f' role="img" aria-label="{escape(label)}"'
    body = re.sub(r"<\w[^>]*>", lambda tag: _own_ids(tag.group(), identifier), body)
    return Markup(f"{head}>{body.strip()}")


def _own_ids(tag: str, identifier: str) -> str:
    """One tag with its ids and references prefixed: ids are unique within a page, not within a picture."""
    return re.sub(r'(\bid="|url\(#|href="#)', lambda match: f"{match.group()}{identifier}-", tag)
