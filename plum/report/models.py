"""The sections of a report that say how its retrievers were made: payload in, tables and pictures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from plum.report import figures
from plum.report.drawing import Style
from plum.report.tables import REFERENCE, cell, row, table
from plum.report.wording import (
    DASH,
    as_number,
    duration,
    flops_text,
    human_count,
    is_accuracy,
    label_of,
    plain,
    primary_metric,
    title_text,
    value_text,
    words,
)

_AGREEMENT = ("neighbour_overlap", "cooccurrence_agreement")
_SHOWN, _WIDTH = 3, 60  # example titles of a code, and characters of each: shops write some of several lines


def quality(facts: Mapping[str, Any], spread: Mapping[str, Any]) -> dict[str, Any] | None:
    """Health of the Semantic IDs by level, and how the items spread over the codes of the first."""
    first = _first_level(spread)
    if not facts and not first:
        return None
    known = [
        level
        for level in facts.get("levels") or []
        if all(as_number(level.get(key)) is not None for key in ("size", "usage", "perplexity"))
    ]
    levels = [(int(level["size"]), float(level["usage"]), float(level["perplexity"])) for level in known]
    figure = None
    if levels:
        told = "; ".join(f"level {i}: {u:.1%} of {s:,} codes, perplexity {p:.1f}" for i, (s, u, p) in enumerate(levels))
        caption = (
            "Codebook usage. Wide bar: codes that some item has. Narrow bar: perplexity, the number of codes in use if "
            "items were spread evenly over them."
        )
        figure = {"svg": figures.codebook_usage(levels, f"Codebook usage. {told}."), "caption": caption}
    dead = [as_number(level.get("dead")) for level in known]
    rows = [
        row(str(i), [cell(f"{s:,}"), cell(f"{u:.1%}"), cell(DASH if d is None else f"{d:,.0f}"), cell(f"{p:.1f}")])
        for i, ((s, u, p), d) in enumerate(zip(levels, dead, strict=True))
    ]
    return {
        "facts": words({key: value for key, value in facts.items() if key not in ("levels", *_AGREEMENT)}),
        "levels": table("Codebook levels", "level", ["codes", "in use", "dead", "perplexity"], rows) if rows else None,
        "figure": figure,
        "agreement": _agreement(facts),
        "first": first,
        "pictures": [*_later_levels(spread), *_two_levels(spread)],
    }


def _agreement(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Per prefix length, what its items have in common beside what chance would give them."""
    near, taken = (facts.get(key) or {} for key in _AGREEMENT)
    columns = [
        ("neighbours that share it", near.get("recall")),
        ("by chance", near.get("recall_random")),
        ("Jaccard", near.get("jaccard")),
        ("by chance", near.get("jaccard_random")),
        ("pairs that share it", taken.get("share")),
        ("by chance", taken.get("random")),
        ("lift", taken.get("lift")),
    ]
    shown = [(name, values) for name, values in columns if values]
    if not shown:
        return None
    lengths = range(min(len(values) for _, values in shown))
    rows = [row(f"{length + 1}", [cell(value_text(values[length])) for _, values in shown]) for length in lengths]
    return table("Agreement of prefixes", "codes", [name for name, _ in shown], rows, look="dense")


def _later_levels(spread: Mapping[str, Any]) -> list[dict[str, Any]]:
    pictures = []
    for level, counts in enumerate(spread.get("later") or [], 1):
        told = f"{sum(n > 0 for n in counts):,} of {len(counts):,} codes have items, the fullest {max(counts):,}"
        svg = figures.code_spread(counts, f"Items per code of level {level}, fullest code first: {told}.", level)
        pictures.append({"svg": svg, "caption": f"How items spread over the codes of level {level}: {told}."})
    return pictures


def _two_levels(spread: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = spread.get("tree")
    if not found or not sum(map(sum, found["counts"])):
        return []
    (first, second), left_out = found["sizes"], found["left_out"]
    told = (
        f"The {len(found['codes']):,} fullest of {first:,} first codes, each with its second codes (of {second:,}), "
        f"fullest first: {found['items'] - left_out:,} of {found['items']:,} items, {left_out:,} are not shown."
    )
    return [{"svg": figures.first_two_levels(found["counts"], told), "caption": told}]


def _first_level(spread: Mapping[str, Any]) -> dict[str, Any] | None:
    counts = [int(number) for count in spread.get("level_0") or [] if (number := as_number(count)) is not None]
    top = spread.get("top") or []
    figure = None
    if sum(counts):
        told = (
            f"{sum(count > 0 for count in counts):,} of {len(counts):,} codes have items, the fullest {max(counts):,}"
        )
        svg = figures.code_spread(counts, f"Items per code of level 0, fullest code first: {told}.")
        figure = {
            "svg": svg,
            "caption": f"How items spread over the codes of level 0: {told} of {sum(counts):,} items.",
        }
    rows = []
    for entry in top:
        titles = [shorten(title_text(title), _WIDTH, placeholder="…") for title in (entry.get("titles") or [])[:_SHOWN]]
        topics = plain([str(topic) for topic in entry.get("topics") or []])
        rows.append(
            row(
                plain(entry.get("code")),
                [cell(plain(entry.get("items"))), cell("; ".join(titles) or DASH), cell(topics)],
            )
        )
    if not figure and not rows:
        return None
    columns, left = ["items", "example titles", "topics"], ("example titles", "topics")
    shown = table("Fullest codes of level 0", "code", columns, rows, left=left, look="wordy") if rows else None
    return {"figure": figure, "table": shown}


def training(curves: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def efficiency(
    costs: Mapping[str, Any],
    retrievers: Mapping[str, Any],
    intervals: Mapping[str, Any],
    styles: Mapping[str, Style],
) -> dict[str, Any] | None:
    """What each retriever's training took, beside the metric of the headline; dashes where nothing is trained."""
    if not any(costs.values()):
        return None
    metric = primary_metric(retrievers)
    columns = ["parameters", "examples", "tokens", "FLOPs", "epochs", *([label_of(metric)] if metric else [])]
    rows, points = [], {}
    for name in dict.fromkeys([*retrievers, *costs]):
        cost, reached = costs.get(name) or {}, (retrievers.get(name) or {}).get(metric or "")
        texts = [human_count(cost.get(key)) for key in ("parameters", "examples", "tokens")]
        texts += [flops_text(cost.get("flops")), plain(cost.get("epochs")), *([value_text(reached)] if metric else [])]
        rows.append(row(str(name), [cell(text) for text in texts], name == REFERENCE))
        spent, value = as_number(cost.get("flops")), as_number(reached)
        if spent and spent > 0 and value is not None:
            ends = [as_number(end) for end in (intervals.get(name) or {}).get(metric) or (value, value)]
            low, high = (value if end is None else end for end in ends)
            points[str(name)] = (spent, (value, low, high))
    figure = None
    if points and metric:
        told = "; ".join(f"{name} {p[0]:.4f} for {flops_text(spent)}" for name, (spent, p) in points.items())
        caption = (
            f"{label_of(metric)} over the FLOPs of the training. Up and to the left is better; bars are 95% intervals."
        )
        label = f"{label_of(metric)} over the FLOPs of the training. {told}."
        figure = {"svg": figures.cost_scatter(points, styles, label_of(metric), label), "caption": caption}
    return {"table": table("Cost of the training", "retriever", columns, rows, look="dense"), "figure": figure}


def tuning(searches: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per retriever what was tried on validation, every trial, and what was chosen."""
    return [_search(str(name), search) for name, search in searches.items() if search]


def _search(name: str, search: Mapping[str, Any]) -> dict[str, Any]:
    trials, chosen = search.get("trials") or [], search.get("chosen") or {}
    fields = list(dict.fromkeys(field for trial in trials for field in trial.get("settings") or {}))
    measures = list(dict.fromkeys(key for trial in trials for key in trial if key.startswith("valid_")))
    rows = []
    for number, trial in sorted(enumerate(trials, 1), key=lambda entry: _standing(entry[1], measures)):
        settings = trial.get("settings") or {}
        # Settings may be a part of all that is chosen; without any, nothing was searched and there was no choice.
        marked = bool(settings) and all(key in chosen and chosen[key] == value for key, value in settings.items())
        cells = [cell(plain(settings.get(field)), best=marked) for field in fields]
        cells += [cell(value_text(trial.get(measure)), best=marked) for measure in measures]
        rows.append(row(f"{number} ✓ chosen" if marked else str(number), cells, marked))
    columns = [field.replace("_", " ") for field in fields]
    columns += [f"validation {label_of(measure.removeprefix('valid_'))}" for measure in measures]
    look = "dense narrow" + (" tall" if len(rows) > 15 else "")
    return {
        "name": name,
        "searched": words(search.get("searched") or {}),
        "chosen": words(chosen),
        "note": str(search.get("note") or ""),
        "count": len(trials),
        "table": table(f"Trials of {name}", "trial", columns, rows, look=look) if rows else None,
    }


def _standing(trial: Mapping[str, Any], measures: Sequence[str]) -> list[float]:
    """Sort key: the best trial first, one without a figure last."""
    values = [as_number(trial.get(measure)) for measure in measures]
    return [float("inf") if value is None else -value for value in values]


def dense_search(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Exact and approximate search over the dense item vectors."""
    if not entries:
        return None
    overlap = next((key for entry in entries for key in entry if key.startswith("recall_of_exact")), "")
    found = f"exact top {overlap.partition('@')[2]} found" if "@" in overlap else "exact list found"
    columns = ["parameters", found, "ms per query", "built in", "size"]
    rows = []
    for entry in entries:
        share, size = as_number(entry.get(overlap)), as_number(entry.get("mib"))
        texts = [plain(entry.get("parameters") or None), DASH if share is None else f"{share:.1%}"]
        texts += [plain(entry.get("ms_per_query")), duration(entry.get("build_s"))]
        texts.append(DASH if size is None else f"{size:,.1f} MiB")
        rows.append(row(str(entry.get("index", "")), [cell(text) for text in texts]))
    return table("Dense search", "index", columns, rows, left=("parameters",), look="dense")
