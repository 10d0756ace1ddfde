"""How every picture of a report looks: colours, markers, and the way from a matplotlib figure to inline SVG.

Text stays text, no ids clash, and the same numbers give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, GRID, PLUM, BEHIND = "#1f1b24", "#5f5a66", "#e3e0e6", "#7a1f5c", "#9c2f2f"
# Apart from each other, from PLUM and from INK for readers who see no red, no green or no blue; at least 3:1 on white.
COLOURS = ("#0a65ba", "#ff4e00", "#16642d", "#3a2fa8", "#c55a72", "#749e22", "#3a9cbc")
# Distinct without any colour too. Of other lengths than COLOURS: a ninth line differs from the second in two ways.
MARKERS = ("s", "^", "D", "v", "P", "X", "p", "<")
LINES = ("-", "--", "-.")
_WIDTH = 4.8  # inches; 9.5 pt comes out as 13 pixels on a screen and as 10 on a phone

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "plum",
    "text.parse_math": False,  # a title with two dollar signs is no formula
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same on every machine
    "font.size": 10,
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
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}


class Style(NamedTuple):
    """How one line or point series is drawn."""

    colour: str
    marker: str
    line: str
    front: bool = False


def styles_of(names: Sequence[str], highlight: str, bound: str = "") -> dict[str, Style]:
    """One style per name, the same in every picture that is given the result.

    Args:
        names: all that any picture shows, in order.
        highlight: gets the project's colour, a dot and a place in front.
        bound: gets ink, a star and dots for a line: no rival but a limit.

    Returns:
        name -> style; up to 9 names, these two among them, differ in colour and in marker.
    """
    special = {highlight: Style(PLUM, "o", "-", front=True), bound: Style(INK, "*", ":")}
    others = [name for name in names if name not in special]
    drawn = {
        name: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)])
        for i, name in enumerate(others)
    }
    return {name: special.get(name) or drawn[name] for name in names}


def legend_below(axes: Axes, entries: int) -> float:
    """Put the legend under the axes, where it hides nothing.

    Args:
        axes: with labelled series.
        entries: how many there are.

    Returns:
        The height that it takes, in inches.
    """
    columns = min(entries, 4)
    # Handles without error bars: nine of them in a row would be a fence.
    handles, names = axes.get_legend_handles_labels()
    plain = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    figure = cast(Figure, axes.figure)
    figure.legend(
        plain,
        names,
        loc="outside lower center",
        ncols=columns,
        handlelength=2,
        columnspacing=1,
        handletextpad=0.5,
        borderpad=0.1,
    )
    return legend_height(entries)


def legend_height(entries: int) -> float:
    """Inches that :func:`legend_below` takes."""
    return 0.2 * -(-entries // 4)


def render(draw: Callable[[Axes], None], identifier: str, label: str, height: float) -> Markup:
    """Draw on a figure of its own (no pyplot, no global figure) and return it as an element for inline use.

    Args:
        draw: fills the axes.
        identifier: unlike that of any other picture of the page.
        label: what the picture says, for readers who cannot see it.
        height: inches.

    Returns:
        An ``<svg>`` element.
    """
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
