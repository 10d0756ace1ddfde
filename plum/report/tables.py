"""Tables whose rows or columns are retrievers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plum.report.blocks import Cell, Row, Table
from plum.report.wording import (
    BOUND,
    as_number,
    best_of,
    interval_text,
    label_of,
    order_of_metric,
    primary_metric,
    value_text,
)

REFERENCE = "plum"


def best_first(retrievers: Mapping[str, Any]) -> dict[str, Any]:
    """The retrievers by the metric of the headline, the best first, those without a figure after them, the bound last.

    Args:
        retrievers: name -> metric -> value.
    """
    metric = primary_metric(retrievers) or ""

    def place(name: str) -> tuple[bool, float]:
        value = as_number((retrievers[name] or {}).get(metric))
        return name == BOUND, float("inf") if value is None else -value

    return {name: retrievers[name] or {} for name in sorted(retrievers, key=place)}


def metric_names(retrievers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Metrics that some retriever has, in reading order."""
    return sorted({name for values in retrievers.values() for name in values}, key=order_of_metric)


def metric_cells(
    retrievers: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]
) -> dict[str, list[Cell]]:
    """Per retriever a cell per metric: the value, beside it the interval; the best of a metric stands out."""
    best = {metric: best_of(retrievers, metric) for metric in metrics}
    return {
        str(name): [
            Cell(value_text(values.get(m)), interval_text((intervals.get(name) or {}).get(m)), name in best[m])
            for m in metrics
        ]
        for name, values in retrievers.items()
    }


def by_retriever(label: str, cells: Mapping[str, Sequence[Cell]], columns: Sequence[str], look: str = "dense") -> Table:
    """A table with a row per retriever; the bound is set apart, since it is no rival."""
    rows = [
        Row(name, values, marked=name == REFERENCE, apart=name == BOUND and len(cells) > 1)
        for name, values in cells.items()
    ]
    return Table(label, "retriever", columns, rows, look=look)


def metric_table(
    label: str,
    retrievers: Mapping[str, Mapping[str, Any]],
    intervals: Mapping[str, Mapping[str, Any]],
    metrics: Sequence[str],
) -> Table:
    """A row per retriever, a column per metric."""
    return by_retriever(label, metric_cells(retrievers, intervals, metrics), [label_of(metric) for metric in metrics])
