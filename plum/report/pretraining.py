"""The section of a report that says what continued pre-training learnt, and what the model forgot by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plum.report.blocks import Cell, Columns, Facts, Heading, Picture, Row, Section, Table, Text, pictures
from plum.report.figures.training import training_curves
from plum.report.wording import DASH, as_number, human_count, value_text

Rows = Mapping[str, Mapping[str, Any]]
"""When or by what -> figures: before, after, and references."""

_ROWS = {
    "before": "before pre-training",
    "after": "after pre-training",
    "n-gram": "counted n-gram",
    "majority": "the same for all",
    "copy": "copied from the nearest item",
    "usual word": "always the usual word",
}
_NOTE = (
    "Measured on documents of users and items that pre-training did not read, and on validation users, without any "
    "fine-tuning. A model that is not below the n-gram, or not above what is copied from the nearest item, has learnt "
    "nothing that counting or copying does not know."
)
_LOSSES = (
    "Nats per token, by the softmax over the whole vocabulary; an item is the sum of its codes. The n-gram "
    "interpolates items alone and pairs of items, words alone and pairs of words (Witten-Bell). It is told which level "
    "a code is of."
)
_CODES = (
    "Given: the share of right codes at each level after the true earlier ones. Beam: the share of items whose first "
    "codes are right in the best Semantic ID of a beam search over the catalogue."
)
_TEXTS = "F1 of the words of the model's likeliest text against the item's own."
_DRIFT = (
    "Distance of the weights from where they began. Relative: by their length before. Signs: the share of weights "
    "whose sign has changed. ORBIT (arXiv 2605.12419) finds that forgetting follows this distance."
)
_PANELS = {
    "nats per token": {
        "held_out_behaviour_loss": "held-out users",
        "held_out_metadata_loss": "held-out items",
    },
    "Recall@10": {"recall@10": "next item"},
    "share or F1": {
        "title_to_sid": "title to first code",
        "sid_to_title_f1": "title, F1",
        "sid_to_topics_f1": "topics, F1",
        "cloze": "last words guessed",
    },
    "bits per character": {"bits_per_character": "general text"},
}
"""What is on the y axis -> names in the log, and what the picture calls them."""
_REFERENCE_OF = {"recall@10": ("next_item", "popularity", "recall@10")}
"""What of a panel has a reference of one number, and where it is: drawn as a level line."""


def pretraining(learnt: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> Section:
    """Tables of what was measured before and after, beside references, and pictures of the course.

    Args:
        learnt: what ``plum.probes.course.Course.report`` gives; any part may be missing.
        log: entries of the training log with ``step`` and figures.
    """
    blocks = [
        *_losses(learnt.get("losses") or {}),
        *_single(
            "The next item from a history", learnt.get("next_item"), {"recall@10": "Recall@10", "ndcg@10": "NDCG@10"}
        ),
        *_codes(learnt.get("title_to_sid") or {}),
        *_texts(learnt),
        *_single(
            "General text",
            learnt.get("english"),
            {"bits_per_character": "bits per character", "cloze": "last words guessed"},
        ),
        *_drift(learnt.get("drift") or {}),
        *_missing(learnt.get("missing") or {}),
    ]
    drawn = pictures(_curves(learnt, log))
    gist = "held-out documents, titles, general text, drift"
    blocks = [Text(_NOTE), *drawn, *blocks] if blocks or drawn else []
    return Section("pretraining", "What pre-training learnt and forgot", gist, blocks)


def _losses(kinds: Mapping[str, Rows]) -> list[Any]:
    groups = []
    for kind, rows in kinds.items():
        n_levels = max((len(figures.get("levels") or []) for figures in rows.values()), default=0)
        columns = ["token", "text", "item", *(f"code {level + 1}" for level in range(n_levels))]
        values = {
            row: [f.get("loss"), f.get("text"), f.get("item"), *_padded(f.get("levels"), n_levels)]
            for row, f in rows.items()
        }
        tokens = next((figures.get("tokens") for figures in rows.values()), None)
        groups.append(
            [Heading(f"Loss on held-out {kind} documents, {human_count(tokens)} tokens"), _table(kind, values, columns)]
        )
    return [Columns(groups), Text(_LOSSES)] if groups else []


def _single(title: str, rows: Rows | None, columns: Mapping[str, str]) -> list[Any]:
    """A heading and a table with a column per figure."""
    if not rows:
        return []
    values = {row: [figures.get(key) for key in columns] for row, figures in rows.items()}
    return [Heading(title), _table(title, values, list(columns.values()))]


def _codes(rows: Rows) -> list[Any]:
    if not rows:
        return []
    n_levels = max(len(figures.get("given") or []) for figures in rows.values())
    columns = [f"given: code {level + 1}" for level in range(n_levels)]
    columns += [f"beam: {level + 1} code{'s' if level else ''}" for level in range(n_levels)]
    values = {
        row: [*_padded(figures.get("given"), n_levels), *_padded(figures.get("beam"), n_levels)]
        for row, figures in rows.items()
    }
    return [Heading("From a title to the Semantic ID"), _table("Title to Semantic ID", values, columns), Text(_CODES)]


def _texts(learnt: Mapping[str, Any]) -> list[Any]:
    found = {name: learnt.get(f"sid_to_{name}") or {} for name in ("title", "topics")}
    found = {name: rows for name, rows in found.items() if rows}
    if not found:
        return []
    names = dict.fromkeys(row for rows in found.values() for row in rows)
    values = {row: [(rows.get(row) or {}).get("f1") for rows in found.values()] for row in names}
    table = _table("Semantic ID to text", values, [f"{name}, F1" for name in found])
    return [Heading("From the Semantic ID to text"), table, Text(_TEXTS)]


def _drift(groups: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    if not groups:
        return []
    rows = []
    for name, figures in groups.items():
        relative, turned = as_number(figures.get("relative_l2")), as_number(figures.get("sign_dissimilarity"))
        texts = [human_count(figures.get("weights")), value_text(figures.get("l2"))]
        texts += [DASH if share is None else f"{share:.2%}" for share in (relative, turned)]
        rows.append(Row(str(name), [Cell(text) for text in texts]))
    table = Table("Drift of the weights", "weights", ["number", "L2", "relative", "signs"], rows, look="narrow")
    return [Heading("How far the weights have moved"), table, Text(_DRIFT)]


def _missing(reasons: Mapping[str, Any]) -> list[Any]:
    """What could not be measured, and why."""
    if not reasons:
        return []
    return [Heading("Not measured"), Facts([(str(name), str(reason)) for name, reason in reasons.items()], long=True)]


def _table(label: str, values: Mapping[str, Sequence[Any]], columns: Sequence[str]) -> Table:
    rows = [
        Row(_ROWS.get(str(row), str(row)), [Cell(value_text(value)) for value in cells], marked=row == "after")
        for row, cells in values.items()
    ]
    return Table(label, "", columns, rows, look="dense narrow")


def _padded(values: Sequence[Any] | None, n: int) -> list[Any]:
    return [*(values or []), *[None] * n][:n]


def _curves(learnt: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> Iterable[Picture | None]:
    """A picture per panel that has two points or more."""
    for number, (axis, names) in enumerate(_PANELS.items()):
        lines = {}
        for name, called in names.items():
            points = [(step, value) for step, value in map(lambda entry: _point(entry, name), log) if value is not None]
            if len(points) > 1:
                lines[called] = points
                level = _level(learnt, name)
                if level is not None:
                    lines[level[0]] = [(points[0][0], level[1]), (points[-1][0], level[1])]
        if lines:
            told = "; ".join(f"{name} from {line[0][1]:.4g} to {line[-1][1]:.4g}" for name, line in lines.items())
            caption = f"{axis} over the steps of pre-training: {told}."
            yield Picture(training_curves({axis: lines}, caption, f"pretraining{number}"), caption)


def _point(entry: Mapping[str, Any], name: str) -> tuple[float, float | None]:
    step = as_number(entry.get("step"))
    return (0.0, None) if step is None else (step, as_number(entry.get(name)))


def _level(learnt: Mapping[str, Any], name: str) -> tuple[str, float] | None:
    """A reference of one number, and what it is called."""
    if name not in _REFERENCE_OF:
        return None
    task, row, key = _REFERENCE_OF[name]
    value = as_number(((learnt.get(task) or {}).get(row) or {}).get(key))
    return None if value is None else (row, value)


def told(learnt: Mapping[str, Any]) -> list[str]:
    """The figures in lines for a terminal, each as before -> after beside its references."""
    lines = []
    for kind, rows in (learnt.get("losses") or {}).items():
        lines += _line(f"loss on held-out {kind} documents", rows, "loss", "nats a token")
        lines += _line(f"loss on their Semantic IDs ({kind})", rows, "item", "nats an item")
    lines += _line("next item without fine-tuning", learnt.get("next_item") or {}, "recall@10", "Recall@10")
    rows = learnt.get("title_to_sid") or {}
    first = {row: {"first": (figures.get("beam") or [None])[0]} for row, figures in rows.items()}
    lines += _line("title to first code", first, "first", "right")
    for name in ("title", "topics"):
        lines += _line(f"Semantic ID to {name}", learnt.get(f"sid_to_{name}") or {}, "f1", "F1")
    lines += _line("general text", learnt.get("english") or {}, "bits_per_character", "bits a character")
    lines += _line("general text, last words", learnt.get("english") or {}, "cloze", "guessed")
    return lines


def _line(what: str, rows: Rows, key: str, unit: str) -> list[str]:
    """A line; none without a figure of the model."""
    values = {row: as_number(figures.get(key)) for row, figures in rows.items()}
    after = values.pop("after", None)
    if after is None:
        return []
    before = values.pop("before", None)
    course = f"{value_text(before)} -> {value_text(after)}" if before is not None else value_text(after)
    others = ", ".join(
        f"{_ROWS.get(row, row)} {value_text(value)}" for row, value in values.items() if value is not None
    )
    return [f"{what}: {course} {unit}" + (f" ({others})" if others else "")]
