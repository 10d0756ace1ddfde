"""Describe a data set before it is used: its size, its shape, and what calls for caution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from plum.data import moments
from plum.data.splits import MIN_SPLIT_LENGTH
from plum.data.tables import ITEM_COLUMNS, RawTables
from plum.foreign import cell

if TYPE_CHECKING:
    from rich.console import Group

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_BARS = 12  # more distinct ratings than this are put into bins


def describe(tables: RawTables, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Describe a data set in numbers.

    Args:
        tables: as read from a source.
        known: the items by when they first occur (``plum.data.splits.KnownReport``), under the temporal protocol.

    Returns:
        Plain values that JSON can hold:

        - ``counts``: users, items (in the catalogue), items with interactions, interactions, rows read, tags;
        - ``density``: interactions / (users x items in the catalogue), from 0 to 1 (above it with repeats);
        - ``time``: ``first`` and ``last`` as ISO 8601 in UTC, ``ties``, the share of interactions whose user has
          another one at the same time, and ``last_tied``, the users with 3 interactions or more whose last two are at
          one time; all None if timestamps are positions;
        - ``repeats``: interactions with an item that the user had before;
        - ``nulls``: missing values per column of interactions;
        - ``sequence_length`` and ``item_popularity``: percentiles over users, and over items with interactions;
        - ``item_fields``: share of items, from 0 to 1, that have a title, topics, ...;
        - ``ratings``: ``[low, high, count]`` of each distinct rating or, if there are many, of each bin;
        - ``known_items``: as given; None under leave-one-out;
        - ``problems``: rows left out.
    """
    log = tables.interactions
    users = _codes(log["user_id"])
    items = _codes(log["item_id"])
    lengths = np.bincount(users) if len(users) else np.zeros(0, np.int64)
    popularity = np.bincount(items) if len(items) else np.zeros(0, np.int64)
    cells = len(lengths) * len(tables.items)
    return {
        "counts": {
            "users": len(lengths),
            "items": len(tables.items),
            "items_with_interactions": len(popularity),
            "interactions": len(log),
            "rows_read": tables.n_rows,
            "tags": 0 if tables.tags is None else len(tables.tags),
        },
        "density": len(log) / cells if cells else 0.0,
        "time": _time(log, users, tables.timestamps_are_positions),
        "repeats": _n_repeats(users, items),
        "nulls": {str(name): int(log[name].isna().sum()) for name in log.columns},
        "sequence_length": _percentiles(lengths),
        "item_popularity": _percentiles(popularity),
        "item_fields": {name: _share_present(tables.items[name]) for name in ITEM_COLUMNS[1:] if name in tables.items},
        "ratings": _histogram(log["rating"].dropna().to_numpy()),
        "known_items": None if known is None else dict(known),
        "problems": [asdict(problem) for problem in tables.problems],
    }


def _codes(values: pd.Series) -> np.ndarray:
    return pd.factorize(values)[0]


def iso(seconds: int) -> str:
    """Give seconds since 1970 as ISO 8601 in UTC, also before 1970 and beyond the range of nanoseconds.

    Example:
        >>> iso(874724710)
        '1997-09-20T03:05:10+00:00'
    """
    return (_EPOCH + timedelta(seconds=int(seconds))).isoformat()


def _time(log: pd.DataFrame, users: np.ndarray, positions: bool) -> dict[str, Any]:
    if not len(log):
        return {"first": None, "last": None, "ties": 0.0, "last_tied": 0}
    stamps = log["timestamp"].to_numpy()
    if positions:
        return {"first": None, "last": None, "ties": None, "last_tied": None}
    times = moments.codes(log)
    ties = pd.Series(users.astype(np.int64) * (int(times.max()) + 1) + times).duplicated(keep=False).mean()
    told = {"first": iso(stamps.min()), "last": iso(stamps.max()), "ties": float(ties)}
    return {**told, "last_tied": _n_last_tied(log, users, times)}


def _n_last_tied(log: pd.DataFrame, users: np.ndarray, times: np.ndarray) -> int:
    """Count users with enough interactions for a test item whose last two are at one time."""
    order = np.lexsort((*moments.sort_keys(log), users))
    lengths = np.bincount(users)
    last = np.cumsum(lengths)[lengths >= MIN_SPLIT_LENGTH] - 1
    return int((times[order[last]] == times[order[last - 1]]).sum())


def _n_repeats(users: np.ndarray, items: np.ndarray) -> int:
    """Count interactions with an item that the user had before."""
    pairs = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    return int(pd.Series(pairs).duplicated().sum())


def _percentiles(counts: np.ndarray) -> dict[str, float]:
    if not len(counts):
        return {}
    return {f"p{p}": float(v) for p, v in zip(PERCENTILES, np.percentile(counts, PERCENTILES), strict=True)}


def _share_present(values: pd.Series) -> float:
    """Share of items with a value, from 0 to 1; empty lists and texts don't count."""
    if not len(values):
        return 0.0
    present = values.notna() & values.map(lambda value: not hasattr(value, "__len__") or len(value) > 0).astype(bool)
    return float(present.mean())


def _histogram(ratings: np.ndarray) -> list[list[float]]:
    distinct = pd.Series(ratings).value_counts().sort_index()
    if len(distinct) <= _MAX_BARS:
        return [[float(value), float(value), int(count)] for value, count in distinct.items()]  # type: ignore[arg-type]
    counts, edges = np.histogram(ratings.astype(np.float64), bins=10)
    return [[float(edges[i]), float(edges[i + 1]), int(count)] for i, count in enumerate(counts)]


def render(description: dict[str, Any]) -> Group:
    """Lay out what :func:`describe` returns for a terminal.

    Args:
        description: as returned by :func:`describe`.

    Returns:
        A group of rich tables, to be printed by a rich console.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [_overview(description), _spread(description), _fields(description)]
    if description["ratings"]:
        parts.append(_ratings(description["ratings"]))
    if description["problems"]:
        parts.append(_problems(description["problems"]))
    else:
        parts.append(Text("All rows are usable.", style="green"))
    return Group(*parts)


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left")
    return table


def _overview(d: dict[str, Any]) -> Any:
    table = _table("Data set", "", "")
    for name, count in d["counts"].items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    table.add_row("density", f"{d['density']:.4%}")
    table.add_row("first", d["time"]["first"] or "(timestamps are positions)")
    table.add_row("last", d["time"]["last"] or "")
    ties = d["time"]["ties"]
    table.add_row("interactions tied in time", "unknown" if ties is None else f"{ties:.1%}")
    if d["time"]["last_tied"] is not None:
        table.add_row("users whose last two tie", f"{d['time']['last_tied']:,}")
    table.add_row("repeats of (user, item)", f"{d['repeats']:,}")
    if (known := d["known_items"]) is not None:
        table.add_row("items known before validation begins", f"{known['known']:,}")
        table.add_row("items that first occur later", f"{known['first_later']:,}")
        table.add_row("items that never occur", f"{known['never']:,}")
        table.add_row("items not known before validation begins", f"{known['later_share']:.1%}")
    return table


def _spread(d: dict[str, Any]) -> Any:
    table = _table("Percentiles", "", *(f"{p}%" for p in PERCENTILES))
    for name in ("sequence_length", "item_popularity"):
        table.add_row(name.replace("_", " "), *(f"{value:,.0f}" for value in d[name].values()))
    return table


def _fields(d: dict[str, Any]) -> Any:
    table = _table("Columns", "", "present")
    for name, share in d["item_fields"].items():
        table.add_row(cell(f"items: {name}"), f"{share:.1%}")
    n = max(d["counts"]["interactions"], 1)
    for name, missing in d["nulls"].items():
        table.add_row(cell(f"interactions: {name}"), f"{1 - missing / n:.1%}")
    return table


def _ratings(bars: list[list[float]]) -> Any:
    table = _table("Ratings", "rating", "interactions", "share")
    total = sum(count for _, _, count in bars)
    for low, high, count in bars:
        label = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        table.add_row(label, f"{count:,.0f}", f"{count / total:.1%}")
    return table


def _problems(problems: list[dict[str, Any]]) -> Any:
    table = _table("Rows left out", "file", "rows", "reason", "first")
    for p in problems:
        table.add_row(cell(p["file"]), f"{p['count']:,}", cell(p["reason"]), cell(p["example"]))
    return table
