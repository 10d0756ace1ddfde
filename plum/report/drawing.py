"""How every picture of a report looks: colours, markers, and the way from a matplotlib figure to inline SVG.

Text stays text, no ids clash, and the same numbers give the same bytes. Colours are written as variables of the page's
style sheet, which gives them one value on a light page and another on a dark one.
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

from plum.foreign import one_line, visible

# The series s0 to s6 differ from each other, from plum and from ink for readers who see no red, no green or no blue,
# and have a contrast of at least 3:1 with the page.
LIGHT = {
    **{"page": "#ffffff", "ink": "#1f1b24", "muted": "#5f5a66", "grid": "#e3e0e6"},
    **{"plum": "#7a1f5c", "behind": "#9c2f2f", "empty": "#e8e4ec", "soft": "#c98fb8"},
    **{"s0": "#0a65ba", "s1": "#ff4e00", "s2": "#16642d", "s3": "#3a2fa8", "s4": "#c55a72", "s5": "#749e22"},
    "s6": "#3a9cbc",
    **{"shade0": "#ecd3e4", "shade1": "#d8a9ca", "shade2": "#bd78aa", "shade3": "#994583", "shade4": "#5c1244"},
}
"""Variable of the style sheet -> its colour on a light page; no two are the same."""
DARK = {
    **{"page": "#18151b", "ink": "#ece8f0", "muted": "#aaa4b3", "grid": "#37323d"},
    **{"plum": "#e394cb", "behind": "#f08a80", "empty": "#332d39", "soft": "#8d4f7d"},
    **{"s0": "#3d66f7", "s1": "#ea811b", "s2": "#59ec9b", "s3": "#d62db8", "s4": "#ff4857", "s5": "#ffd821"},
    "s6": "#37a6ff",
    **{"shade0": "#45243b", "shade1": "#6d3a5e", "shade2": "#a05a8a", "shade3": "#cf8cba", "shade4": "#f7d3ea"},
}
"""The same variables on a dark page. Shades run from near the page's colour to far from it on both."""
INK, MUTED, GRID, PLUM, BEHIND, EMPTY, SOFT = (
    LIGHT[name] for name in ("ink", "muted", "grid", "plum", "behind", "empty", "soft")
)
COLOURS = tuple(LIGHT[f"s{number}"] for number in range(7))
SHADES = tuple(LIGHT[f"shade{number}"] for number in range(5))
"""Classes with an order: they read without any colour too."""
# Distinct without any colour too. Their number differs from that of COLOURS: a ninth line differs from the second one
# in two ways.
MARKERS = ("s", "^", "D", "v", "P", "X", "p", "<")
LINES = ("-", "--", "-.")
_VARIABLES = {colour: f"var(--{name})" for name, colour in LIGHT.items()}
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
    """One style per name, the same in every picture that uses the result.

    Args:
        names: all that any picture shows, in order.
        highlight: gets the project's colour, a dot and a place in front.
        bound: gets ink, a star and a dotted line: it is a limit, not a rival.

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


def legend_above(axes: Axes, columns: int, title: str | None = None) -> None:
    """Put a legend of one line over the axes, flush left."""
    axes.legend(
        title=title,
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        handlelength=1.2,
        columnspacing=1.2,
        handletextpad=0.5,
        borderpad=0.0,
    )


def render(draw: Callable[[Axes], None], identifier: str, label: str, height: float) -> Markup:
    """Draw one pair of axes; see :func:`render_panels`."""
    return render_panels([draw], identifier, label, height)


def render_panels(draws: Sequence[Callable[[Axes], None]], identifier: str, label: str, height: float) -> Markup:
    """Draw on a figure of its own (no pyplot, no global figure) and return it as an element for inline use.

    Args:
        draws: each fills axes of its own; they stand below each other and share the x axis.
        identifier: unlike that of any other picture of the page.
        label: what the picture says, for readers who cannot see it.
        height: inches.

    Returns:
        An ``<svg>`` element whose colours are variables named as in ``LIGHT``.
    """
    with matplotlib.rc_context(cast(Any, _STYLE)):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        for draw, axes in zip(draws, figure.subplots(len(draws), sharex=True, squeeze=False)[:, 0], strict=True):
            draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = visible(buffer.getvalue())
    svg = svg[svg.index("<svg") :]  # an XML declaration has no place inside HTML
    # Metadata names outside addresses, and the style sheet would reach out of the picture into the page.
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head) + f' role="img" aria-label="{escape(one_line(label))}"'
    body = re.sub(r"<\w[^>]*>", lambda tag: _for_page(tag.group(), identifier), body)
    return Markup(f"{head}>{body.strip()}")


def _for_page(tag: str, identifier: str) -> str:
    """One tag with prefixed ids and references, since ids are unique within a page, and with colours as variables."""
    tag = re.sub(r'(\bid="|url\(#|href="#)', lambda match: f"{match.group()}{identifier}-", tag)
    return re.sub(r"#[0-9a-f]{6}(?=[;\"])", lambda match: _VARIABLES.get(match.group(), match.group()), tag)
