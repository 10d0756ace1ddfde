"""The sections of a report that say how good the recommendations are: accuracy, comparisons, slices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from plum.report.blocks import Cell, Columns, Heading, Picture, Row, Section, Table, Text, pictures
from plum.report.conditions import explain_protocol
from plum.report.drawing import Style
from plum.report.figures import results as figures
from plum.report.sample import over_users
from plum.report.tables import REFERENCE, by_retriever, metric_cells, metric_names, metric_table
from plum.report.wording import (
    DASH,
    UNCLEAR,
    as_number,
    best_of,
    by_cutoff,
    explain,
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
)

# Slices with an order from one end to the other; those by a user feature may have none.
_PICTURED = ("popularity of the target", "length of the history")
_LAST = ("other", "unknown")


def main_table(retrievers: Mapping[str, Any], intervals: Mapping[str, Any], payload: Mapping[str, Any]) -> Table | None:
    """The table of the first screen: Recall@10, NDCG@10 and Recall@10 under the other rule for seen items."""
    metric = primary_metric(retrievers)
    if metric is None:
        return None
    metrics = list(dict.fromkeys([metric, metric.replace("recall@", "ndcg@")]))
    metrics = [name for name in metrics if any(name in values for values in retrievers.values())]
    cells = metric_cells(retrievers, intervals, metrics)
    columns = [label_of(name) for name in metrics]
    seen, others = _other_rule(payload)
    if any(metric in values for values in others.values()):
        of_others = metric_cells({name: others.get(name, {}) for name in retrievers}, {}, [metric])
        cells = {name: [*found, *of_others[name]] for name, found in cells.items()}
        columns.append(f"{label_of(metric)}, seen items {seen}")
    return by_retriever("Retrievers, best first", cells, columns, look="main")


def accuracy(
    retrievers: Mapping[str, Any], intervals: Mapping[str, Any], styles: Mapping[str, Style], n_users: Any = None
) -> Section:
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
    same = " With one target per user, the hit rate is the same." if repeated else ""
    tables: list[list[Any]] = []
    for family, metrics in groups.items():
        label = label_of(family)
        about = Text(explain(family) + (same if family == "recall" else ""))
        tables.append([Heading(label), about, metric_table(f"{label} by retriever", retrievers, intervals, metrics)])
    if not tables:
        return Section("accuracy", "")
    drawn = pictures([_recall_picture(retrievers, intervals, styles, n_users)])
    cutoffs = dict.fromkeys(metric.partition("@")[2] for metrics in groups.values() for metric in metrics)
    note = f"Means over {over_users(n_users)} with 95% intervals; the best of each column is bold."
    return Section(
        "accuracy",
        "Accuracy at all cut-offs",
        f"{_listed([label_of(family) for family in groups])} at {_listed(list(cutoffs))}",
        [Text(note), Columns([*tables, *([drawn] if drawn else [])])],
    )


def _recall_picture(
    retrievers: Mapping[str, Any], intervals: Mapping[str, Any], styles: Mapping[str, Style], n_users: Any
) -> Picture | None:
    """Recall over the cutoffs; None with fewer than two."""
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for name, values in retrievers.items():
        for k, metric in by_cutoff(values, "recall"):
            point = point_of(values[metric], (intervals.get(name) or {}).get(metric))
            if point is not None:
                curves.setdefault(str(name), []).append((k, *point))
    if not any(len(points) > 1 for points in curves.values()):
        return None
    told = "; ".join(
        f"{name} " + ", ".join(f"{value:.3f} at {k}" for k, value, _, _ in points) for name, points in curves.items()
    )
    caption = (
        f"Recall by length of the list. Bars are 95% intervals over {over_users(n_users)}; the k axis is logarithmic."
    )
    return Picture(figures.recall_curves(curves, styles, f"Recall by length of the list. {told}."), caption)


def other_view(retrievers: Mapping[str, Any], payload: Mapping[str, Any]) -> Section:
    """Recall and NDCG under the other rule for seen items, and how far each mean is from the headline's."""
    seen, found = _other_rule(payload)
    others = {name: found[name] for name in [*retrievers, *found] if name in found}
    groups: dict[str, list[str]] = {"recall": [], "ndcg": []}
    for metric in metric_names(others):
        groups.get(family_of(metric), []).append(metric)
    tables = []
    for family, metrics in groups.items():
        cells = {
            name: [
                Cell(entry.value, _change(retrievers.get(name), values, metric), entry.best)
                for metric, entry in zip(metrics, row, strict=True)
            ]
            for (name, row), values in zip(metric_cells(others, {}, metrics).items(), others.values(), strict=True)
        }
        if metrics:
            label = f"{label_of(family)}, seen items {seen}"
            columns = [label_of(metric) for metric in metrics]
            tables.append([Heading(label), by_retriever(label, cells, columns)])
    sentences = " ".join(explain_protocol({"seen": seen})["sentences"])
    note = f"{sentences} The smaller figure is the difference to the mean under the headline's rule."
    title, gist = f"With seen items {seen}", "recall and NDCG under the other rule for items of the history"
    return Section("other-view", title, gist, [Text(note), Columns(tables)] if tables else [])


def _other_rule(payload: Mapping[str, Any]) -> tuple[str, dict[str, Mapping[str, Any]]]:
    """The rule for seen items that is not the headline's, and each retriever's means under it."""
    key = "seen_kept" if payload.get("seen_kept") else "seen_filtered"
    return key.removeprefix("seen_"), {name: values for name, values in (payload.get(key) or {}).items() if values}


def _change(headline: Mapping[str, Any] | None, values: Mapping[str, Any], metric: str) -> str:
    before, now = as_number((headline or {}).get(metric)), as_number(values.get(metric))
    return "" if before is None or now is None else signed(now - before)


def comparisons(
    entries: Sequence[Mapping[str, Any]], order: Sequence[str], metric: str | None, n_users: Any = None
) -> Section:
    """Paired differences as a table and, for the headline's metric, as a picture; the best rival of a metric first."""
    if not entries:
        return Section("comparisons", "")
    metrics = list(dict.fromkeys(entry.get("metric") for entry in entries))
    ranks = {name: rank for rank, name in enumerate(order)}
    entries = sorted(
        entries, key=lambda entry: (metrics.index(entry.get("metric")), ranks.get(entry.get("b", ""), len(ranks)))
    )
    adjusted = any(as_number(entry.get("p_holm")) is not None for entry in entries)
    columns = ["pair", "difference", "95% interval", "p", *(["p (Holm)"] if adjusted else []), "reading"]
    rows = []
    for entry in entries:
        texts = [f"{entry.get('a', '')} − {entry.get('b', '')}", signed(entry["difference"])]
        texts += [interval_text(entry.get("ci95"), signs=True) or DASH, p_text(entry.get("p_value"))]
        texts += [*([p_text(entry.get("p_holm"))] if adjusted else []), reading(entry)]
        rows.append(Row(label_of(str(entry.get("metric", ""))), [Cell(text) for text in texts]))
    note = (
        f"Mean difference over the same {over_users(n_users)}, its 95% interval, and the two-sided p-value of a "
        "sign-flip permutation test. "
    )
    if adjusted:
        note += (
            "p (Holm) is corrected by Holm's method for all comparisons shown. A retriever is ahead only where p "
            "(Holm) is below 0.05 and the interval excludes zero."
        )
    else:
        note += "The p-values are not corrected for the number of comparisons."
    table = Table("Paired comparisons", "metric", columns, rows, left=("pair", "reading"), look="dense")
    drawn = pictures([_difference_picture(entries, metric, n_users)])
    blocks = [Text(note), Columns([[table], drawn] if drawn else [[table]], wide=True)]
    return Section("comparisons", "Paired comparisons", _tally(entries, metric), blocks)


def _tally(entries: Sequence[Mapping[str, Any]], metric: str | None) -> str:
    """How many retrievers the reference is ahead of and behind in the headline's metric."""
    chosen = [entry for entry in entries if entry.get("metric") == metric and entry.get("a") == REFERENCE]
    read = [reading(entry) for entry in chosen]
    if not chosen or metric is None:
        return "differences with intervals and p-values"
    ahead, unclear = read.count(f"{REFERENCE} ahead"), sum(text in (UNCLEAR, DASH) for text in read)
    told = [f"ahead of {ahead}", f"behind {len(read) - ahead - unclear}"]
    told += [f"no clear difference to {unclear}"] if unclear else []
    return f"{REFERENCE} in {label_of(metric)}: {', '.join(told)}"


def _difference_picture(entries: Sequence[Mapping[str, Any]], metric: str | None, n_users: Any) -> Picture | None:
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
        f"Paired differences in {label_of(metric)} with 95% intervals over {over_users(n_users)}. On the right "
        "of the line, the first of the pair has the higher mean; differences that are not clear are grey."
    )
    return Picture(svg, caption)


def slices(
    groups: Sequence[Mapping[str, Any]], order: Sequence[str], styles: Mapping[str, Style], n_users: int | None
) -> Section:
    """Per way of slicing a table, rows the slices and columns the retrievers; ordered ones get a picture too.

    Args:
        groups: of :func:`plum.evaluation.slices.score_slices`.
        order: the retrievers as the columns show them; others follow.
        styles: retriever -> how it is drawn.
        n_users: test users; a group whose only slice has all of them is left out.
    """
    blocks: list[Any] = []
    drawn, named = [], []
    for number, group in enumerate(groups):
        title = str(group.get("group", ""))
        parts = [part for part in group.get("slices") or [] if part.get("retrievers")]
        parts = parts if title in _PICTURED else in_order(parts)
        metric = primary_metric(
            {str(i): values for i, part in enumerate(parts) for values in part["retrievers"].values()}
        )
        if metric is None:
            continue
        label = f"{label_of(metric)} by {title}"
        if len(parts) == 1 and n_users is not None and parts[0].get("users") == n_users:
            continue  # it is all users: the headline again
        named.append(title)
        blocks += [Heading(label), _slice_table(parts, metric, label, order)]
        drawn.append(_slice_picture(parts, metric, label, styles, number) if title in _PICTURED else None)
    note = (
        "The same lists, scored on a part of the users or targets, with 95% intervals over the users of the "
        "slice; the best of each row is bold. Small slices have wide intervals, and among many slices some differences "
        "are chance."
    )
    blocks = [Text(note), *pictures(drawn), *blocks] if blocks else []
    return Section("slices", "Slices of users and targets", f"by {_listed(named)}", blocks)


def in_order(parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Slices by the number that their names start with or speak of, as in "under 18", "18-24", "65 or more".

    Slices without an order of that kind stay as they are, which is by size; "other" and "unknown" come last.
    """
    kept = [part for part in parts if part.get("name") not in _LAST]
    numbers = [re.search(r"\d+(?:\.\d+)?", str(part.get("name", "")).replace(",", "")) for part in kept]
    if all(numbers):
        keys = [
            (float(found[0]), not re.match(r"(under|below|less|up to|<)", str(part.get("name")).lower()))
            for part, found in zip(kept, numbers, strict=True)
            if found
        ]
        kept = [part for _, part in sorted(zip(keys, kept, strict=True), key=lambda pair: pair[0])]
    return [*kept, *(part for name in _LAST for part in parts if part.get("name") == name)]


def _slice_table(parts: Sequence[Mapping[str, Any]], metric: str, label: str, order: Sequence[str]) -> Table:
    found = dict.fromkeys(name for part in parts for name in part["retrievers"])
    names = [name for name in dict.fromkeys([*order, *found]) if name in found]
    whole = all(part.get("targets") in (None, part.get("users")) for part in parts)
    counts = ["users"] if whole else ["users", "targets"]
    rows = []
    for part in parts:
        best = best_of(part["retrievers"], metric)
        cells = [Cell(plain(part.get(count))) for count in counts]
        for name in names:
            values = part["retrievers"].get(name) or {}
            cells.append(Cell(value_text(values.get(metric)), interval_text(values.get("ci95")), name in best))
        rows.append(Row(str(part.get("name", "")), cells))
    return Table(label, "slice", [*counts, *names], rows, look="dense")


def _slice_picture(
    parts: Sequence[Mapping[str, Any]], metric: str, title: str, styles: Mapping[str, Style], number: int
) -> Picture | None:
    drawn, told = [], []
    for part in parts:
        points = {}
        for retriever, values in part["retrievers"].items():
            point = point_of(values.get(metric), values.get("ci95"))
            if point is not None:
                points[str(retriever)] = point
        if points:
            # Narrow: slices stand side by side.
            name = str(part.get("name")).replace(", ", ",\n")
            drawn.append((f"{name}\n{plain(part.get('users'))}", points))
            told.append(f"{part.get('name')}: " + ", ".join(f"{who} {p[0]:.3f}" for who, p in points.items()))
    if not drawn:
        return None
    svg = figures.slice_dots(drawn, styles, label_of(metric), f"{title}. {'; '.join(told)}.", number)
    return Picture(svg, f"{title}. Below the name of each slice is its number of users; bars are 95% intervals.")


def point_of(value: Any, ends: Sequence[Any] | None) -> figures.Point | None:
    """A value with the ends of its interval; ends that are missing are the value itself."""
    number = as_number(value)
    if number is None:
        return None
    low, high = (number if as_number(end) is None else float(end) for end in ends or (number, number))
    return number, low, high


def _listed(names: Sequence[str]) -> str:
    """``"a, b and c"``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
