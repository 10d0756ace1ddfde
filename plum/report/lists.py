"""The sections of a report that look at the lists themselves: on which items they fall, and what single users get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plum.report.blocks import Cell, Columns, Example, Facts, Picture, Recommended, Row, Section, Table, Text, pictures
from plum.report.drawing import Style
from plum.report.figures import results as figures
from plum.report.tables import REFERENCE, by_retriever, metric_cells, metric_names
from plum.report.wording import as_number, explain, family_of, is_accuracy, label_of, title_text, value_text, words


def exposure(found: Mapping[str, Any], order: Sequence[str]) -> Section:
    """Which share of each retriever's places falls on popular and on rare items, beside the catalogue and the targets.

    Args:
        found: ``classes``, the items' classes by popularity; ``references`` and ``retrievers``: name -> shares of them.
        order: the retrievers as the rows show them; others follow.
    """
    classes, references, shares = (found.get(key) or {} for key in ("classes", "references", "retrievers"))
    names = [name for name in dict.fromkeys([*order, *shares]) if shares.get(name)]
    rows = {**{name: values for name, values in references.items() if values}, **{name: shares[name] for name in names}}
    if not classes or not names:
        return Section("exposure", "")
    texts = {name: [Cell(f"{100 * share:.1f}%") for share in values] for name, values in rows.items()}
    table = by_retriever("Recommendations by popularity of the item", texts, list(classes))
    n_references = len(rows) - len(names)
    told = "; ".join(
        f"{name} " + ", ".join(f"{kind} {share:.0%}" for kind, share in zip(classes, values, strict=True))
        for name, values in rows.items()
    )
    label = f"Recommendations by popularity of the item. {told}."
    svg = figures.exposure_bars(rows, list(classes), n_references, label)
    caption = "Share of the first 10 places of all lists that falls on each class of items."
    note = (
        "The head is the fewest items that have half of the training interactions, the torso the next ones up to 80%, "
        "the tail the rest; cold items have few or no training interactions (eval.cold_below, by default 5). A "
        "retriever that follows what users do next falls on these classes like the test targets."
    )
    gist = "popular and rare items in each retriever's lists"
    blocks = [Text(note), Columns([[table], pictures([Picture(svg, caption)])])]
    return Section("exposure", "Where recommendations fall", gist, blocks)


def beyond(retrievers: Mapping[str, Any], intervals: Mapping[str, Any]) -> Section:
    """What is measured besides accuracy: rows are metrics, since more is not always better and units differ."""
    metrics = [name for name in metric_names(retrievers) if not is_accuracy(name)]
    if not metrics:
        return Section("beyond", "")
    cells = metric_cells(retrievers, intervals, metrics)
    rows = [
        Row(label_of(metric), [Cell(values[number].value, values[number].small) for values in cells.values()])
        for number, metric in enumerate(metrics)
    ]
    # By family: effective vocabulary at two cutoffs is explained once.
    known = dict.fromkeys(family_of(metric) for metric in metrics)
    notes = [(label_of(family), explain(family)) for family in known if explain(family)]
    table = Table("Figures beyond accuracy", "measure", list(cells), rows, look="dense")
    gist = "coverage, novelty, diversity, cold items"
    return Section("beyond", "Beyond accuracy", gist, [table, *([Facts(notes, long=True)] if notes else [])])


def prefixes(
    recalls: Mapping[str, Sequence[Any]], retrievers: Mapping[str, Any], styles: Mapping[str, Style]
) -> Section:
    """How many codes of the target the lists get right: recall of each prefix, then of the item itself."""
    lines = {name: [as_number(v) for v in recalls[name]] for name in [*retrievers, *recalls] if recalls.get(name)}
    if not lines:
        return Section("prefixes", "")
    levels = max(map(len, lines.values()))
    columns = ["1 code", *(f"{level} codes" for level in range(2, levels + 1))]
    whole = {name: as_number((retrievers.get(name) or {}).get("recall@10")) for name in lines}
    if any(value is not None for value in whole.values()):
        columns.append("the item")
        lines = {name: [*values, *[None] * (levels - len(values)), whole[name]] for name, values in lines.items()}
    filled = {name: [*values, *[None] * (len(columns) - len(values))] for name, values in lines.items()}
    cells = {name: [Cell(value_text(value)) for value in values] for name, values in filled.items()}
    # A hole ends a line: what follows would stand at a place that is not its own.
    drawn = {name: _until_hole(values) for name, values in filled.items()}
    drawn = {name: values for name, values in drawn.items() if values}
    told = "; ".join(f"{name} " + ", ".join(f"{value:.3f}" for value in values) for name, values in drawn.items())
    label = f"Recall@10 of the first codes of the target's Semantic ID, {', '.join(columns)}. {told}."
    picture = None
    if drawn:
        svg = figures.prefix_lines(drawn, columns, styles, "Recall@10", label)
        picture = Picture(svg, "Recall@10 of the target's first codes, and of the target itself.")
    note = (
        "Share of targets whose first codes some item among the first 10 places has. This is a diagnosis: it is easier "
        "than recall of items, and never the headline."
    )
    table = by_retriever("Recall of Semantic ID prefixes", cells, columns)
    blocks = [Text(note), Columns([[table], pictures([picture])] if picture else [[table]])]
    return Section("prefixes", "Recall of Semantic ID prefixes", "how many codes of the target the lists hit", blocks)


def delivered(lists: Mapping[str, Any]) -> Section:
    """Which lists were short or empty; facts that are zero are left out."""
    if not lists:
        return Section("lists", "")
    odd = {
        str(name): {key: value for key, value in (facts or {}).items() if value and as_number(value) != 0}
        for name, facts in lists.items()
    }
    told = [(name, "; ".join(f"{key}: {value}" for key, value in words(facts))) for name, facts in odd.items() if facts]
    gist = f"{len(told)} of {len(lists)} retrievers have short or empty lists" if told else "all lists are full"
    blocks = [Facts(told, long=True)] if told else [Text("All lists of all retrievers are full.", quiet=False)]
    return Section("lists", "Short and empty lists", gist, blocks)


def examples(entries: Sequence[Mapping[str, Any]], order: Sequence[str]) -> Section:
    """What a few users got; the list of the reference first, where a phone shows but one."""
    shown = [_example(entry, order) for entry in entries]
    gist = f"history, target and lists of {len(shown)} user{'' if len(shown) == 1 else 's'}"
    note = Text("The users are spread evenly over the test users; nobody chose them. A target in a list is marked ✓.")
    return Section("examples", "Examples", gist, [note, *shown] if shown else [])


def _example(example: Mapping[str, Any], order: Sequence[str]) -> Example:
    lists = example.get("recommendations") or {}
    names = [name for name in dict.fromkeys([REFERENCE, *order, *lists]) if name in lists]
    return Example(
        user=str(example.get("user_id", "")),
        history=[title_text(title) for title in example.get("history") or []],
        target=title_text(example.get("target")),
        lists=[
            (str(name), [Recommended(title_text(item.get("title")), bool(item.get("hit"))) for item in lists[name]])
            for name in names
        ],
    )


def _until_hole(values: Sequence[float | None]) -> list[float]:
    result: list[float] = []
    for value in values:
        if value is None:
            break
        result.append(value)
    return result
