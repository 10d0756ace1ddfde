"""Pictures of Semantic IDs. Numbers in, an ``<svg>`` element out; :mod:`drawing` has their looks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from plum.report import drawing
from plum.report.drawing import EMPTY, INK, PLUM, SHADES, SOFT, legend_above


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
            axes.barh(row, 1.0, height=0.62, color=EMPTY, label="codes of the level" if row == 0 else None)
            axes.barh(row, usage, height=0.62, color=SOFT, label="in use" if row == 0 else None)
            even = "perplexity / size" if row == 0 else None
            axes.barh(row, perplexity / size if size else 0.0, height=0.24, color=PLUM, label=even)
        axes.set_yticks(range(len(levels)), [f"level {row} ({level[0]:,})" for row, level in enumerate(levels)])
        axes.set_ylim(len(levels) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25%", "50%", "75%", "100%"])
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of the level's codes")
        legend_above(axes, 3)

    return drawing.render(draw, "codebook", label, max(1.7, 1.1 + 0.36 * len(levels)))


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
        axes.stairs(heights, range(len(heights) + 1), fill=True, color=SOFT, label="items of a code")
        axes.stairs(heights, range(len(heights) + 1), color=PLUM, linewidth=0.8)
        axes.axhline(even, color=INK, linewidth=1, linestyle="--", label=f"if spread evenly: {even:,.1f}")
        axes.set_xlim(0, len(heights))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(f"codes of level {level}, fullest first")
        axes.set_ylabel("items")
        axes.legend(loc="upper right")

    return drawing.render(draw, f"spread{level}", label, 2.4)


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
    edges = np.unique(np.ceil(np.geomspace(1, table.max() + 1, len(SHADES) + 1))).astype(int).tolist()
    shades = SHADES[1 - len(edges) :]  # the darkest

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
        legend_above(axes, len(SHADES), title="items")

    return drawing.render(draw, "levels", label, 4.2)


def _squares(mask: np.ndarray) -> Path:
    """The outline of the unit squares (rows, columns) that hold True, those side by side in one piece."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (row, left), (_, right) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    corners = [(left, row), (right, row), (right, row + 1), (left, row + 1), (left, row)]
    points = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(row))
    return Path(points.astype(float), codes)
