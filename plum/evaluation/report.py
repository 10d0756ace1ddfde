"""The report of a run: one HTML file that needs nothing else, the same in Markdown, and a table for the console."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from rich.table import Table
from rich.text import Text

from plum.evaluation import figures
from plum.evaluation.wording import (
    DASH,
    Markdown,
    as_number,
    best_of,
    by_cutoff,
    duration,
    escape_markdown,
    explain,
    explain_protocol,
    headline,
    interval_text,
    is_accuracy,
    label_of,
    order_of_metric,
    p_text,
    plain,
    primary_metric,
    reading,
    signed,
    value_text,
    words,
)

REFERENCE = "plum"


def render_report(payload: Mapping[str, Any]) -> tuple[str, str]:
    """The report as HTML and as Markdown. Any key may be missing or empty: its part is then left out.

    Args:
        payload:
            - ``title``: str; ``synthetic``: bool, shows a banner; ``n_users``: int.
            - ``protocol``: dict; ``split`` ("leave-one-out" or "temporal") and ``seen`` ("filtered" or "kept") are
              put into sentences, other entries are listed.
            - ``retrievers``: {name: {metric: value}}, ``intervals``: {name: {metric: [low, high]}}, ``comparisons``:
              entries of :func:`plum.evaluation.compare.compare`.
            - ``data``: {name: count}; ``quality``: the content of ``tokenize/quality.json``.
            - ``curves``: {stage: [{step, loss, "recall@10", ...}]}.
            - ``examples``: [{user_id, history: [title], target: title, recommendations: {retriever: [{title, hit}]}}].
            - ``reproduce``: commands; ``versions``: {library: version}; ``timings``: {stage: {seconds, peak_mib}}.

    Returns:
        html: one self-contained page without scripts or outside addresses.
        markdown: the same without the pictures.
    """
    view = _view(payload)
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    options: dict[str, Any] = {
        "loader": folder,
        "undefined": jinja2.StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
    }
    html = jinja2.Environment(autoescape=True, **options).get_template("report.html.jinja").render(view)
    # Autoescape is for HTML; `finalize` does the same for Markdown: whatever a template prints is escaped.
    markdown = jinja2.Environment(autoescape=False, finalize=escape_markdown, **options)
    markdown.filters["code"] = lambda line: Markdown("    " + " ".join(str(line).split("\n")))
    return html, markdown.get_template("report.md.jinja").render(view)


def console_table(payload: Mapping[str, Any]) -> Table:
    """Retrievers by Recall@10 and NDCG@10 with 95% intervals, best in bold.

    Args:
        payload: as for :func:`render_report`; ``retrievers``, ``intervals``, ``n_users``, ``title`` and ``synthetic``
            are used.

    Returns:
        A table for ``rich.console.Console.print``.
    """
    retrievers, intervals = payload.get("retrievers") or {}, payload.get("intervals") or {}
    names = _metrics(retrievers)
    chosen = [name for name in names if name in ("recall@10", "ndcg@10")] or [n for n in names if is_accuracy(n)][:2]
    users = payload.get("n_users")
    notes = [f"{plain(users)} users" if users else "", "95% intervals over users" if intervals else ""]
    notes.append("synthetic data" if payload.get("synthetic") else "")
    # Text objects: a name with square brackets is no rich markup.
    table = Table(
        title=Text(str(payload.get("title") or "")) if payload.get("title") else None,
        caption=Text(", ".join(note for note in notes if note)),
    )
    table.add_column("retriever")
    for metric in chosen:
        table.add_column(Text(label_of(metric)), justify="right")
    for row in _rows(retrievers, intervals, chosen):
        cells = [Text(cell["value"], "bold" if cell["best"] else "") for cell in row["cells"]]
        for cell, text in zip(row["cells"], cells, strict=True):
            if cell["interval"]:
                text.append(f" [{cell['interval']}]", "dim")
        table.add_row(Text(row["name"]), *cells)
    return table


def _view(payload: Mapping[str, Any]) -> dict[str, Any]:
    """All that the templates show, in words: they only lay out."""
    retrievers, intervals = payload.get("retrievers") or {}, payload.get("intervals") or {}
    comparisons = [
        entry for entry in payload.get("comparisons") or [] if as_number(entry.get("difference")) is not None
    ]
    users = payload.get("n_users")
    verdict, evidence = headline(retrievers, intervals, comparisons, users, REFERENCE)
    return {
        "title": str(payload.get("title") or "Evaluation report"),
        "synthetic": bool(payload.get("synthetic")),
        "users": f"{plain(users)} users" if users else "",
        "verdict": verdict,
        "evidence": evidence,
        "families": _families(retrievers, intervals),
        "comparisons": _comparisons(comparisons),
        "beyond": _beyond(retrievers, intervals),
        "quality": _quality(payload.get("quality") or {}),
        "training": _training(payload.get("curves") or {}),
        "examples": [_example(example) for example in payload.get("examples") or []],
        "protocol": explain_protocol(payload.get("protocol") or {}),
        "data": words(payload.get("data") or {}),
        "timings": _timings(payload.get("timings") or {}),
        "reproduce": [str(line) for line in payload.get("reproduce") or []],
        "versions": words(payload.get("versions") or {}),
        "recall_figure": _recall_figure(retrievers, intervals),
        "difference_figure": _difference_figure(comparisons, primary_metric(retrievers)),
    }


def _metrics(retrievers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Metrics that some retriever has, in reading order."""
    return sorted({name for values in retrievers.values() for name in values}, key=order_of_metric)


def _rows(
    retrievers: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Any]], metrics: list[str]
) -> list[dict[str, Any]]:
    """One row per retriever: a cell per metric with value, interval, and whether it is the best of its column."""
    best = {metric: best_of(retrievers, metric) for metric in metrics}
    return [
        {
            "name": str(name),
            "cells": [
                {
                    "value": value_text(values.get(metric)),
                    "interval": interval_text((intervals.get(name) or {}).get(metric)),
                    "best": name in best[metric],
                }
                for metric in metrics
            ],
        }
        for name, values in retrievers.items()
    ]


def _families(retrievers: Mapping[str, Any], intervals: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table per accuracy metric, columns by cutoff. Hit is left out where it repeats recall."""
    groups: dict[str, list[str]] = {}
    for metric in filter(is_accuracy, _metrics(retrievers)):
        groups.setdefault(metric.split("@")[0], []).append(metric)
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
            "columns": [label_of(metric) for metric in metrics],
            "rows": _rows(retrievers, intervals, metrics),
        }
        for family, metrics in groups.items()
    ]


def _beyond(retrievers: Mapping[str, Any], intervals: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is measured besides accuracy: rows are metrics, since more is not always better and units differ."""
    metrics = [name for name in _metrics(retrievers) if not is_accuracy(name)]
    if not metrics:
        return None
    rows = _rows(retrievers, intervals, metrics)
    families = dict.fromkeys(metric.partition("@")[0] for metric in metrics)
    return {
        "columns": [row["name"] for row in rows],
        "rows": [
            {"name": label_of(metric), "cells": [row["cells"][number] for row in rows]}
            for number, metric in enumerate(metrics)
        ],
        # By family: effective vocabulary at two cutoffs is explained once.
        "notes": [(label_of(family), explain(family)) for family in families if explain(family)],
    }


def _comparisons(entries: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "metric": label_of(str(entry.get("metric", ""))),
            "a": str(entry.get("a", "")),
            "b": str(entry.get("b", "")),
            "difference": signed(entry["difference"]),
            "interval": interval_text(entry.get("ci95"), signs=True) or DASH,
            "p_value": p_text(entry.get("p_value")),
            "reading": reading(entry),
        }
        for entry in entries
    ]


def _recall_figure(retrievers: Mapping[str, Any], intervals: Mapping[str, Any]) -> dict[str, Any] | None:
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for name, values in retrievers.items():
        for k, metric in by_cutoff(values, "recall"):
            value = as_number(values[metric])
            ends = (intervals.get(name) or {}).get(metric) or [value, value]
            if value is not None:
                low, high = (value if as_number(end) is None else float(end) for end in ends)
                curves.setdefault(str(name), []).append((k, value, low, high))
    if not any(len(points) > 1 for points in curves.values()):
        return None
    told = "; ".join(
        f"{name} " + ", ".join(f"{value:.3f} at {k}" for k, value, _, _ in points) for name, points in curves.items()
    )
    label = f"Recall by length of the list. {told}."
    caption = "Recall by length of the list. Bars are 95% intervals over users; the k axis is logarithmic."
    return {"svg": figures.recall_curves(curves, REFERENCE, label), "caption": caption}


def _difference_figure(comparisons: list[Mapping[str, Any]], metric: str | None) -> dict[str, Any] | None:
    chosen = [entry for entry in comparisons if entry.get("metric") == metric and interval_text(entry.get("ci95"))]
    if not chosen or metric is None:
        return None
    entries = [
        (f"{entry['a']} − {entry['b']}", float(entry["difference"]), float(entry["ci95"][0]), float(entry["ci95"][1]))
        for entry in chosen
    ]
    told = "; ".join(f"{name} {signed(mean)} ({signed(low)} to {signed(high)})" for name, mean, low, high in entries)
    axis = f"difference in {label_of(metric)}"
    svg = figures.difference_bars(entries, axis, f"{axis.capitalize()} with 95% intervals: {told}.")
    caption = f"Paired differences in {label_of(metric)} with 95% intervals. Right of the line, the first is ahead."
    return {"svg": svg, "caption": caption}


def _quality(quality: Mapping[str, Any]) -> dict[str, Any] | None:
    if not quality:
        return None
    levels = [
        (int(level["size"]), float(level["usage"]), float(level["perplexity"]))
        for level in quality.get("levels") or []
        if all(as_number(level.get(key)) is not None for key in ("size", "usage", "perplexity"))
    ]
    figure = None
    if levels:
        told = "; ".join(f"level {i}: {u:.1%} of {s:,} codes, perplexity {p:.1f}" for i, (s, u, p) in enumerate(levels))
        caption = (
            "Codebook usage. Wide bar: codes that some item has. Narrow bar: perplexity, the number of codes in use if "
            "items were spread evenly over them."
        )
        figure = {"svg": figures.codebook_usage(levels, f"Codebook usage. {told}."), "caption": caption}
    return {
        "facts": words({key: value for key, value in quality.items() if key != "levels"}),
        "levels": [
            {"level": i, "size": f"{s:,}", "usage": f"{u:.1%}", "perplexity": f"{p:.1f}"}
            for i, (s, u, p) in enumerate(levels)
        ],
        "figure": figure,
    }


def _training(curves: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Pictures of each stage: losses in one, metrics of lists in another (they share no scale)."""
    result = []
    for number, (stage, log) in enumerate(curves.items()):
        lines: dict[str, list[tuple[float, float]]] = {}
        for entry in log or []:
            step = as_number(entry.get("step"))
            for name, raw in entry.items():
                value = as_number(raw)
                if step is not None and value is not None and ("loss" in name or is_accuracy(name)):
                    lines.setdefault(name, []).append((step, value))
        for kind in ("loss", "metric"):
            chosen = {label_of(n): line for n, line in lines.items() if ("loss" in n) == (kind == "loss")}
            if not chosen:
                continue
            told = "; ".join(f"{n} from {line[0][1]:.4g} to {line[-1][1]:.4g}" for n, line in chosen.items())
            last = max(line[-1][0] for line in chosen.values())
            caption = f"{stage}: {told}, over {last:,.0f} steps."
            axis = next(iter(chosen)) if len(chosen) == 1 else kind
            svg = figures.training_curve(chosen, axis, f"Training of {caption}", f"training{number}{kind}")
            result.append({"svg": svg, "caption": caption})
    return result


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "user": str(example.get("user_id", "")),
        "history": [_title(title) for title in example.get("history") or []],
        "target": _title(example.get("target")),
        "lists": [
            {
                "name": str(name),
                "items": [{"title": _title(item.get("title")), "hit": bool(item.get("hit"))} for item in items],
            }
            for name, items in (example.get("recommendations") or {}).items()
        ],
    }


def _title(title: Any) -> str:
    return str(title) if title not in (None, "") else "(no title)"


def _timings(timings: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "stage": str(stage),
            "seconds": duration(values.get("seconds")),
            "memory": DASH if as_number(values.get("peak_mib")) is None else f"{values['peak_mib']:,.0f} MiB",
        }
        for stage, values in timings.items()
        if values
    ]
