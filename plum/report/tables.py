"""The form in which a report's tables reach its templates: every cell is text, the templates only lay out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from plum.report.wording import best_of, interval_text, label_of, order_of_metric, value_text

REFERENCE = "plum"


def cell(value: str, small: str = "", best: bool = False) -> dict[str, Any]:
    """One cell: its text, a smaller text below it (beside it in Markdown), and whether it stands out."""
    return {"value": value, "small": small, "best": best}


def row(name: str, cells: Sequence[dict[str, Any]], marked: bool = False) -> dict[str, Any]:
    """One row: its heading, its cells, and whether it stands out."""
    return {"name": name, "cells": list(cells), "marked": marked}


def table(
    label: str,
    head: str,
    columns: Sequence[str],
    rows: Iterable[dict[str, Any]],
    left: Collection[str] = (),
    look: str = "",
) -> dict[str, Any]:
    """A table of :func:`row`.

    Args:
        label: what it holds, for readers who cannot see it.
        head: the heading above the rows' names.
        columns: the headings of the other columns.
        rows: each with as many cells as there are columns.
        left: columns of text, which are not flush right.
        look: classes of the page's style sheet: "dense", "narrow", "tall" (scrolls on a screen), "wordy" (cells wrap).
    """
    heads = [{"name": name, "left": name in left} for name in columns]
    return {"label": label, "head": head, "columns": heads, "rows": list(rows), "look": look}


def metric_names(retrievers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Metrics that some retriever has, in reading order."""
    return sorted({name for values in retrievers.values() for name in values}, key=order_of_metric)


def metric_cells(
    retrievers: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Per retriever a cell per metric: the value, below it the interval; the best of a metric stands out."""
    best = {metric: best_of(retrievers, metric) for metric in metrics}
    return {
        str(name): [
            cell(value_text(values.get(m)), interval_text((intervals.get(name) or {}).get(m)), name in best[m])
            for m in metrics
        ]
        for name, values in retrievers.items()
    }


def by_retriever(
    label: str, cells: Mapping[str, Sequence[dict[str, Any]]], metrics: Sequence[str], look: str = "dense"
) -> dict[str, Any]:
    """A table with a row per retriever and a column per metric."""
    rows = [row(name, values, name == REFERENCE) for name, values in cells.items()]
    return table(label, "retriever", [label_of(metric) for metric in metrics], rows, look=look)
