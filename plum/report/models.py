"""The sections of a report that say how its retrievers were made: training, tuning, cost, dense search."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from plum.report.blocks import Cell, Columns, Facts, Heading, Picture, Row, Section, Table, Text, pictures
from plum.report.drawing import Style
from plum.report.figures import results as figures
from plum.report.figures.training import training_curves
from plum.report.results import point_of
from plum.report.sample import over_users
from plum.report.tables import by_retriever
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
    value_text,
    words,
)

_LOSSES = {"loss": "training", "valid_loss": "validation"}
"""What a picture calls losses beside each other; the name says the rest."""
_TWO_LOSSES = (
    "The training loss includes dropout and, where they are used, a teacher's probabilities and sampled negatives; the "
    "validation loss is the cross-entropy of the next item alone."
)
_TOKENIZER_LOSSES = (
    "The training loss has the terms of codebooks and co-occurrence too, and reconstructs from some of the levels; the "
    "validation loss is the reconstruction error alone, of held-out items or of a sample of all."
)
_HELD_OUT = "The training loss includes dropout; the others are of documents that are not trained on."
_INDEX = {
    "M": "neighbours per vector",
    "efConstruction": "candidates while building",
    "efSearch": "candidates while searching",
    "nlist": "cells",
    "nprobe": "cells searched",
    "m": "parts of a vector",
    "bits": "bits per part",
}
"""What an approximate index calls its parameters -> what they are."""


def retrievers(about: Mapping[str, Any], order: Sequence[str]) -> Section:
    """What each retriever is, in the order of the tables; those that were left out follow."""
    names = [name for name in dict.fromkeys([*order, *about]) if about.get(name)]
    told = [(str(name), str(about[name])) for name in names]
    return Section("retrievers", "Retrievers", "what each of them is", [Facts(told, long=True)] if told else [])


def training(logs: Mapping[str, Any]) -> Section:
    """A picture per stage: losses above, validation metrics of lists below, since they share no scale."""
    found = [_training_picture(number, str(stage), log) for number, (stage, log) in enumerate(logs.items())]
    gist = f"loss and validation metrics of {', '.join(logs)}" if logs else ""
    return Section("training", "Training", gist, pictures(found))


def _training_picture(number: int, stage: str, log: Sequence[Mapping[str, Any]] | None) -> Picture | None:
    lines: dict[str, list[tuple[float, float]]] = {}
    for entry in log or []:
        step = as_number(entry.get("step"))
        for name, raw in entry.items():
            value = as_number(raw)
            if step is not None and value is not None and ("loss" in name or is_accuracy(name)):
                lines.setdefault(name, []).append((step, value))
    losses = {_LOSSES.get(name, label_of(name)): line for name, line in lines.items() if "loss" in name}
    metrics = {label_of(name): line for name, line in lines.items() if "loss" not in name}
    panels = {axis: found for axis, found in (("loss", losses), ("validation", metrics)) if found}
    if not panels:
        return None
    told = "; ".join(
        f"{name + ' loss' if name in _LOSSES.values() else name} from {line[0][1]:.4g} to {line[-1][1]:.4g}"
        for found in panels.values()
        for name, line in found.items()
    )
    last = max(line[-1][0] for line in lines.values())
    caption = f"{stage}: {told}, over {last:,.0f} steps."
    if len(losses) > 1:
        caption += " " + {"tokenize": _TOKENIZER_LOSSES, "cpt": _HELD_OUT}.get(stage, _TWO_LOSSES)
    return Picture(training_curves(panels, f"Training of {caption}", f"training{number}"), caption)


def efficiency(
    costs: Mapping[str, Any],
    found: Mapping[str, Any],
    intervals: Mapping[str, Any],
    styles: Mapping[str, Style],
    n_users: Any = None,
) -> Section:
    """What each retriever's training took, beside the metric of the headline; dashes where nothing is trained.

    Args:
        costs: retriever -> parameters, examples, tokens, flops, epochs.
        found: retriever -> metric -> value, in the order of the rows.
        intervals: retriever -> metric -> [low, high].
        styles: retriever -> how it is drawn.
        n_users: that were scored, if known.
    """
    if not any(costs.values()):
        return Section("efficiency", "")
    metric = primary_metric(found)
    columns = ["parameters", "examples", "tokens", "FLOPs", "epochs", *([label_of(metric)] if metric else [])]
    cells, points = {}, {}
    for name in dict.fromkeys([*found, *costs]):
        cost, reached = costs.get(name) or {}, (found.get(name) or {}).get(metric or "")
        texts = [human_count(cost.get(key)) for key in ("parameters", "examples", "tokens")]
        texts += [flops_text(cost.get("flops")), plain(cost.get("epochs")), *([value_text(reached)] if metric else [])]
        cells[str(name)] = [Cell(text) for text in texts]
        spent, point = as_number(cost.get("flops")), point_of(reached, (intervals.get(name) or {}).get(metric or ""))
        if spent and spent > 0 and point is not None:
            points[str(name)] = (spent, point)
    picture = None
    if points and metric:
        told = "; ".join(f"{name} {p[0]:.4f} for {flops_text(spent)}" for name, (spent, p) in points.items())
        caption = (
            f"{label_of(metric)} over the FLOPs of the training. Up and to the left is better; bars are 95% intervals "
            f"over {over_users(n_users)}."
        )
        label = f"{label_of(metric)} over the FLOPs of the training. {told}."
        picture = Picture(figures.cost_scatter(points, styles, label_of(metric), label), caption)
    note = (
        "PLUM (section 3) claims sample efficiency: 250 million training examples a day where its production baseline "
        "takes billions, and less than 0.55 times that baseline's training FLOPs. The table shows what each retriever "
        "of this run was trained on, and what it reached. FLOPs are the floating-point operations of all matrix "
        "products, forward and backward; a multiplication and an addition are two. A dash means that nothing is "
        "trained by gradients."
    )
    table = by_retriever("Cost of the training", cells, columns)
    blocks = [Text(note), Columns([[table], pictures([picture])] if picture else [[table]], wide=True)]
    gist = "parameters, examples, tokens and FLOPs beside accuracy"
    return Section("efficiency", "Cost of the training", gist, blocks)


def tuning(searches: Mapping[str, Any], order: Sequence[str]) -> Section:
    """Per retriever the settings that were tried on validation data, every trial, and the choice."""
    names = [name for name in dict.fromkeys([*order, *searches]) if searches.get(name)]
    groups = [_search(str(name), searches[name]) for name in names]
    note = (
        "Searched settings were chosen by their figure on validation data; the test targets had no part in it. All "
        "trials are shown, the best first."
    )
    count = sum(len(searches[name].get("trials") or []) for name in names)
    gist = f"{count:,} trials on validation data" if count > 1 else ""
    return Section("tuning", "Tuning", gist, [Text(note), Columns(groups)] if groups else [])


def _search(name: str, search: Mapping[str, Any]) -> list[Any]:
    """How the settings of a retriever were chosen: what was searched, what was not, and the trials."""
    trials, chosen = search.get("trials") or [], search.get("chosen") or {}
    blocks: list[Any] = [Heading(name)]
    if searched := words(search.get("searched") or {}):
        blocks.append(Facts([(f"searched {field}", values) for field, values in searched]))
    if search.get("note"):
        blocks.append(Text(_sentence(str(search["note"]))))
    if not any(trial.get("settings") for trial in trials):
        found = {key: value for trial in trials for key, value in trial.items() if key.startswith("valid_")}
        return [*blocks, *([Facts([(_measure(key), value_text(found[key])) for key in found])] if found else [])]
    return [*blocks, _trials(name, trials, chosen)]


def _trials(name: str, trials: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> Table:
    fields = list(dict.fromkeys(field for trial in trials for field in trial.get("settings") or {}))
    measures = list(dict.fromkeys(key for trial in trials for key in trial if key.startswith("valid_")))
    rows = []
    for number, trial in sorted(enumerate(trials, 1), key=lambda entry: _standing(entry[1], measures)):
        settings = trial.get("settings") or {}
        # Settings may be a part of all that is chosen.
        marked = bool(settings) and all(key in chosen and chosen[key] == value for key, value in settings.items())
        cells = [Cell(plain(settings.get(field)), best=marked) for field in fields]
        cells += [Cell(value_text(trial.get(measure)), best=marked) for measure in measures]
        rows.append(Row(f"{number} ✓ chosen" if marked else str(number), cells, marked))
    columns = [*(field.replace("_", " ") for field in fields), *map(_measure, measures)]
    look = "dense narrow" + (" tall" if len(rows) > 12 else "")
    return Table(f"Trials of {name}", "trial", columns, rows, look=look)


def _measure(key: str) -> str:
    """``"validation Recall@10"`` of ``"valid_recall@10"``."""
    return f"validation {label_of(key.removeprefix('valid_'))}"


def _sentence(note: str) -> str:
    """A note with settings in words, a capital at its start and a full stop at its end."""
    text = re.sub(r"(?<=[a-z])_(?=[a-z])", " ", note)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ")")) else ".")


def _standing(trial: Mapping[str, Any], measures: Sequence[str]) -> list[float]:
    """Sort key: the best trial first, one without a figure last."""
    values = [as_number(trial.get(measure)) for measure in measures]
    return [float("inf") if value is None else -value for value in values]


def dense_search(entries: Sequence[Mapping[str, Any]]) -> Section:
    """Exact and approximate search over the dense item vectors."""
    if not entries:
        return Section("search", "")
    overlap = next((key for entry in entries for key in entry if key.startswith("recall_of_exact")), "")
    found = f"exact top {overlap.partition('@')[2]} found" if "@" in overlap else "exact list found"
    columns = ["parameters", found, "ms per query", "time to build", "size"]
    rows = []
    for entry in entries:
        share, size = as_number(entry.get(overlap)), as_number(entry.get("mib"))
        parameters = (entry.get("parameters") or {}).items()
        texts = [", ".join(f"{plain(value)} {_INDEX.get(name, name)}" for name, value in parameters) or DASH]
        texts += [DASH if share is None else f"{share:.1%}"]
        texts += [plain(entry.get("ms_per_query")), duration(entry.get("build_s"))]
        texts.append(DASH if size is None else f"{size:,.1f} MiB")
        rows.append(Row(str(entry.get("index", "")), [Cell(text) for text in texts]))
    note = (
        "The item vectors of dense, searched exactly and by approximate indexes. All figures of "
        "this report come from exact search."
    )
    table = Table("Dense search", "index", columns, rows, left=("parameters",), look="wordy")
    return Section("search", "Dense search", "exact and approximate indexes over dense's vectors", [Text(note), table])


def timings(stages: Mapping[str, Any]) -> Section:
    """What each stage took."""
    rows = []
    for stage, values in stages.items():
        peak = as_number((values or {}).get("peak_mib"))
        if values:
            memory = DASH if peak is None else f"{peak:,.0f} MiB"
            rows.append(Row(str(stage), [Cell(duration(values.get("seconds"))), Cell(memory)]))
    seconds = sum(as_number((values or {}).get("seconds")) or 0.0 for values in stages.values())
    table = Table("Time and memory by stage", "stage", ["time", "peak memory"], rows, look="narrow")
    gist = f"{duration(seconds)} in all" if seconds else ""
    return Section("timings", "Time and memory", gist, [table] if rows else [])
