"""The sections of a report that say how good the recommendations are: payload in, tables and pictures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plum.report import figures
from plum.report.drawing import Style
from plum.report.tables import REFERENCE, by_retriever, cell, metric_cells, metric_names, row, table
from plum.report.wording import (
    DASH,
    UNCLEAR,
    as_number,
    best_of,
    by_cutoff,
    explain,
    explain_protocol,
    family_of,
    interval_text,
    is_accuracy,
    label_of,
    p_text,
    plain,
    primary_metric,
    reading,
    signed,
    value_text,
    words,
)

# Slices with an order from one end to the other; those by a user feature may have none.
_PICTURED = ("popularity of the target", "length of the history")


def families(retrievers: Mapping[str, Any], intervals: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table per accuracy metric, columns by cutoff. Hit is left out where it repeats recall."""
    groups: dict[str, list[str]] = {}
    for metric in filter(is_accuracy, metric_names(retrievers)):
        groups.setdefault(family_of(metric), []).append(metric)
    repeated = "hit" in groups and all(
        values.get(metric) == values.get(metric.replace("hit", "recall"))
        for values in retrievers.values()
        for metric in groups["hit"]
    )
    if repeated:
        del groups["hit"]
    same = " With one target a user, the hit rate is the same." if repeated else ""
    return [
        {
            "name": label_of(family),
            "about": explain(family) + (same if family == "recall" else ""),
            "table": by_retriever(
                f"{label_of(family)} by retriever", metric_cells(retrievers, intervals, metrics), metrics
            ),
        }
        for family, metrics in groups.items()
    ]


def other_view(retrievers: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """Recall and NDCG under the other rule for seen items, and how far each mean is from the headline's."""
    key = "seen_kept" if payload.get("seen_kept") else "seen_filtered"
    seen = key.removeprefix("seen_")
    others = {name: values for name, values in (payload.get(key) or {}).items() if values}
    groups: dict[str, list[str]] = {"recall": [], "ndcg": []}
    for metric in metric_names(others):
        groups.get(family_of(metric), []).append(metric)
    tables = []
    for family, metrics in groups.items():
        cells = metric_cells(others, {}, metrics)
        for name, values in cells.items():
            for metric, entry in zip(metrics, values, strict=True):
                headline, other = (as_number((of.get(name) or {}).get(metric)) for of in (retrievers, others))
                entry["small"] = "" if headline is None or other is None else signed(other - headline)
        if metrics:
            label = f"{label_of(family)}, seen items {seen}"
            tables.append({"name": label, "table": by_retriever(label, cells, metrics)})
    if not tables:
        return None
    sentences = explain_protocol({"seen": seen})["sentences"]
    return {"seen": seen, "about": " ".join(sentences), "tables": tables}


def beyond(retrievers: Mapping[str, Any], intervals: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is measured besides accuracy: rows are metrics, since more is not always better and units differ."""
    metrics = [name for name in metric_names(retrievers) if not is_accuracy(name)]
    if not metrics:
        return None
    cells = metric_cells(retrievers, intervals, metrics)
    by_metric = [
        row(label_of(metric), [values[number] | {"best": False} for values in cells.values()])
        for number, metric in enumerate(metrics)
    ]
    known = dict.fromkeys(family_of(metric) for metric in metrics)
    return {
        "table": table("Figures beyond accuracy", "measure", list(cells), by_metric, look="dense"),
        # By family: effective vocabulary at two cutoffs is explained once.
        "notes": [(label_of(family), explain(family)) for family in known if explain(family)],
    }


def comparisons(entries: Sequence[Mapping[str, Any]], metric: str | None) -> dict[str, Any] | None:
    """Paired differences as a table and, for the headline's metric, as a picture; None if there are none."""
    if not entries:
        return None
    adjusted = any(as_number(entry.get("p_holm")) is not None for entry in entries)
    columns = ["pair", "difference", "95% interval", "p", *(["p (Holm)"] if adjusted else []), "reading"]
    rows = []
    for entry in entries:
        texts = [f"{entry.get('a', '')} − {entry.get('b', '')}", signed(entry["difference"])]
        texts += [interval_text(entry.get("ci95"), signs=True) or DASH, p_text(entry.get("p_value"))]
        texts += [*([p_text(entry.get("p_holm"))] if adjusted else []), reading(entry)]
        rows.append(row(label_of(str(entry.get("metric", ""))), [cell(text) for text in texts]))
    return {
        "adjusted": adjusted,
        "table": table("Paired comparisons", "metric", columns, rows, left=("pair", "reading"), look="dense"),
        "figure": _difference_figure(entries, metric),
    }


def _difference_figure(entries: Sequence[Mapping[str, Any]], metric: str | None) -> dict[str, Any] | None:
    chosen = [entry for entry in entries if entry.get("metric") == metric and interval_text(entry.get("ci95"))]
    if not chosen or metric is None:
        return None
    drawn, told = [], []
    for entry in chosen:
        name, ends = f"{entry['a']} − {entry['b']}", entry["ci95"]
        point = (float(entry["difference"]), float(ends[0]), float(ends[1]))
        drawn.append((name, point, reading(entry) != UNCLEAR))
        told.append(f"{name} {signed(point[0])} ({interval_text(ends, signs=True)})")
    axis = f"difference in {label_of(metric)}"
    svg = figures.difference_bars(drawn, axis, f"{axis.capitalize()} with 95% intervals: {'; '.join(told)}.")
    caption = (
        f"Paired differences in {label_of(metric)} with 95% intervals. Right of the line, the first has more; grey "
        "where nobody is clearly ahead."
    )
    return {"svg": svg, "caption": caption}


def recall_figure(
    retrievers: Mapping[str, Any], intervals: Mapping[str, Any], styles: Mapping[str, Style]
) -> dict[str, Any] | None:
    """Recall over the cutoffs; None with fewer than two."""
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for name, values in retrievers.items():
        for k, metric in by_cutoff(values, "recall"):
            point = _point(values[metric], (intervals.get(name) or {}).get(metric))
            if point is not None:
                curves.setdefault(str(name), []).append((k, *point))
    if not any(len(points) > 1 for points in curves.values()):
        return None
    told = "; ".join(
        f"{name} " + ", ".join(f"{value:.3f} at {k}" for k, value, _, _ in points) for name, points in curves.items()
    )
    label = f"Recall by length of the list. {told}."
    caption = "Recall by length of the list. Bars are 95% intervals over users; the k axis is logarithmic."
    return {"svg": figures.recall_curves(curves, styles, label), "caption": caption}


def slices(groups: Sequence[Mapping[str, Any]], styles: Mapping[str, Style]) -> list[dict[str, Any]]:
    """Per way of slicing a table, rows the slices and columns the retrievers; ordered ones get a picture too."""
    result = []
    for number, group in enumerate(groups):
        parts = [part for part in group.get("slices") or [] if part.get("retrievers")]
        metric = primary_metric(
            {str(i): values for i, part in enumerate(parts) for values in part["retrievers"].values()}
        )
        if metric is None:
            continue
        names = list(dict.fromkeys(name for part in parts for name in part["retrievers"]))
        whole = all(part.get("targets") in (None, part.get("users")) for part in parts)
        counts = ["users"] if whole else ["users", "targets"]
        rows = []
        for part in parts:
            found = part["retrievers"]
            best = best_of(found, metric)
            cells = [cell(plain(part.get(count))) for count in counts]
            for name in names:
                values = found.get(name) or {}
                cells.append(cell(value_text(values.get(metric)), interval_text(values.get("ci95")), name in best))
            rows.append(row(str(part.get("name", "")), cells))
        title = str(group.get("group", ""))
        label = f"{label_of(metric)} by {title}"
        result.append(
            {
                "name": title,
                "metric": label_of(metric),
                "table": table(label, "slice", [*counts, *names], rows, look="dense"),
                "figure": _slice_figure(parts, metric, label, styles, number) if title in _PICTURED else None,
            }
        )
    return result


def _slice_figure(
    parts: Sequence[Mapping[str, Any]], metric: str, title: str, styles: Mapping[str, Style], number: int
) -> dict[str, Any] | None:
    drawn, told = [], []
    for part in parts:
        points = {}
        for name, values in part["retrievers"].items():
            point = _point(values.get(metric), values.get("ci95"))
            if point is not None:
                points[str(name)] = point
        if points:
            drawn.append((f"{part.get('name')}\n{plain(part.get('users'))}", points))
            told.append(f"{part.get('name')}: " + ", ".join(f"{name} {p[0]:.3f}" for name, p in points.items()))
    if not drawn:
        return None
    svg = figures.slice_dots(drawn, styles, label_of(metric), f"{title}. {'; '.join(told)}.", number)
    return {"svg": svg, "caption": f"{title}. Below each slice its users; bars are 95% intervals over them."}


def prefixes(
    recalls: Mapping[str, Sequence[Any]], retrievers: Mapping[str, Any], styles: Mapping[str, Style]
) -> dict[str, Any] | None:
    """How far down the Semantic ID recommendations are right: recall of each prefix, then of the item itself."""
    lines = {str(name): [as_number(value) for value in values] for name, values in recalls.items() if values}
    if not lines:
        return None
    levels = max(map(len, lines.values()))
    columns = ["1 code", *(f"{level} codes" for level in range(2, levels + 1))]
    whole = {name: as_number((retrievers.get(name) or {}).get("recall@10")) for name in lines}
    if any(value is not None for value in whole.values()):
        columns.append("the item")
        lines = {name: [*values, *[None] * (levels - len(values)), whole[name]] for name, values in lines.items()}
    filled = {name: [*values, *[None] * (len(columns) - len(values))] for name, values in lines.items()}
    cells = {name: [cell(value_text(value)) for value in values] for name, values in filled.items()}
    # A hole ends a line: what follows would stand at a place that is not its own.
    drawn = {name: _until_hole(values) for name, values in filled.items()}
    drawn = {name: values for name, values in drawn.items() if values}
    told = "; ".join(f"{name} " + ", ".join(f"{value:.3f}" for value in values) for name, values in drawn.items())
    label = f"Recall@10 of the first codes of the target's Semantic ID, {', '.join(columns)}. {told}."
    svg = figures.prefix_lines(drawn, columns, styles, "Recall@10", label) if drawn else None
    return {
        "table": table(
            "Recall of Semantic ID prefixes",
            "retriever",
            columns,
            [row(name, entries, name == REFERENCE) for name, entries in cells.items()],
            look="dense",
        ),
        "figure": {"svg": svg, "caption": "Recall@10 of the target's first codes, and of itself."} if svg else None,
    }


def delivered(lists: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was not as it should be about the lists; facts that are zero are left out."""
    if not lists:
        return None
    odd = {
        str(name): {key: value for key, value in (facts or {}).items() if value and as_number(value) != 0}
        for name, facts in lists.items()
    }
    told = [(name, "; ".join(f"{key}: {value}" for key, value in words(facts))) for name, facts in odd.items() if facts]
    return {"facts": told}


def _point(value: Any, ends: Sequence[Any] | None) -> figures.Point | None:
    """A value with the ends of its interval; ends that are missing are the value itself."""
    number = as_number(value)
    if number is None:
        return None
    low, high = (number if as_number(end) is None else float(end) for end in ends or (number, number))
    return number, low, high


def _until_hole(values: Sequence[float | None]) -> list[float]:
    result: list[float] = []
    for value in values:
        if value is None:
            break
        result.append(value)
    return result
