"""The picture of a training. Numbers in, an ``<svg>`` element out; :mod:`drawing` has its looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from plum.report import drawing
from plum.report.drawing import styles_of

Lines = Mapping[str, Sequence[tuple[float, float]]]
"""Quantity -> (step, value) in order."""

_MOST_POINTS = 400


def training_curves(panels: Mapping[str, Lines], label: str, identifier: str) -> Markup:
    """Losses and validation metrics over the steps of a stage, one panel per kind; long logs are thinned evenly.

    Args:
        panels: what is on the y axis -> its lines; the panels stand below each other and share the steps.
        label: what the picture says, for readers who cannot see it.
        identifier: unlike that of any other picture of the page.

    Returns:
        An ``<svg>`` element.
    """
    draws = [_panel(axis, lines, last=place == len(panels)) for place, (axis, lines) in enumerate(panels.items(), 1)]
    return drawing.render_panels(draws, identifier, label, 0.7 + 1.7 * len(panels))


def gap_curves(lines: Lines, label: str, identifier: str) -> Markup:
    """Gaps of an optimisation over its steps, both on logarithmic axes.

    Args:
        lines: what is measured -> its (step, gap), both above 0.
        label: what the picture says, for readers who cannot see it.
        identifier: unlike that of any other picture of the page.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        for name, style in styles_of(list(lines), list(lines)[-1]).items():
            steps, gaps = zip(*lines[name], strict=True)
            axes.plot(steps, gaps, label=name, color=style.colour, linestyle=style.line, linewidth=1.6)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):  # the scale's own labels are formulas, which pictures don't read
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("step")
        axes.set_ylabel("gap in nats")
        axes.legend(handlelength=2.2)

    return drawing.render(draw, identifier, label, 2.4)


def _panel(axis: str, lines: Lines, last: bool) -> Callable[[Axes], None]:
    """What draws one panel; the last one names the steps."""

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
        axes.set_ylabel(axis)
        if last:
            axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        if len(lines) > 1 or axis not in lines:
            axes.legend(handlelength=2.2, ncols=2 if len(lines) > 3 else 1)

    return draw


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``_MOST_POINTS`` points evenly over the sequence, the first and the last among them."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (_MOST_POINTS - 1))] for i in range(_MOST_POINTS)]
