"""The results of a run as tables for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from plum.foreign import cell, one_line
from plum.report.sample import few_hits, few_users
from plum.report.tables import REFERENCE, best_first, metric_cells, metric_names
from plum.report.wording import is_accuracy, label_of, plain, title_text

HIT = "✓ "
MISS = "  "
_FRAME = 10
"""Columns of the terminal that the lines and blanks of a table of three columns take."""
_FEWEST = 12
"""Columns of text at least, however narrow the terminal."""
_MOST_TARGETS = 5


def console_table(payload: Mapping[str, Any]) -> Table:
    """Retrievers by Recall@10 and NDCG@10 with 95% intervals, best first and in bold.

    Args:
        payload: as for :func:`plum.report.page.render_report`; ``retrievers``, ``intervals``, ``n_users``, ``title``
            and ``synthetic`` are used.

    Returns:
        A table for ``rich.console.Console.print``.
    """
    retrievers, intervals = payload.get("retrievers") or {}, payload.get("intervals") or {}
    names = metric_names(retrievers)
    chosen = [name for name in names if name in ("recall@10", "ndcg@10")] or [n for n in names if is_accuracy(n)][:2]
    users = payload.get("n_users")
    notes = [f"{plain(users)} users" if users else "", "95% intervals over users" if intervals else ""]
    notes.append("synthetic data" if payload.get("synthetic") else "")
    warned = [few_users(users), few_hits(users, retrievers)]
    lines = [", ".join(note for note in notes if note), *(" ".join(warning) for warning in warned if warning)]
    shown = Table(
        title=cell(payload.get("title") or "") if payload.get("title") else None,
        caption=Text("\n".join(line for line in lines if line)),
    )
    shown.add_column("retriever")
    for metric in chosen:
        shown.add_column(Text(label_of(metric)), justify="right")
    for name, cells in metric_cells(best_first(retrievers), intervals, chosen).items():
        texts = [Text(entry.value, "bold" if entry.best else "") for entry in cells]
        for entry, text in zip(cells, texts, strict=True):
            if entry.small:
                text.append(f" [{entry.small}]", "dim")
        shown.add_row(cell(name), *texts)
    return shown


def examples_table(examples: Sequence[Mapping[str, Any]], width: int) -> Table:
    """What some users had, what plum recommends to them, and what they really took next.

    Args:
        examples: the content of ``eval/examples.json``.
        width: columns of the terminal; longer titles are cut.
    """
    heads = ("history, newest last", f"{REFERENCE} recommends", "what came next")
    rows = [_example(example) for example in examples]
    columns = [[head, *(line for row in rows for line in row[i])] for i, head in enumerate(heads)]
    widths = _fit([max(map(cell_len, column)) for column in columns], width - _FRAME)
    title = f"Example users ({HIT.strip()} marks what came next)"
    table = Table(title=title, title_justify="left", show_lines=True)
    for head, allowed in zip(heads, widths, strict=True):
        table.add_column(Text(_cut(head, allowed)), no_wrap=True)
    for row in rows:
        lines = [
            [Text(_cut(line, allowed), "bold" if line.startswith(HIT) else "") for line in column]
            for column, allowed in zip(row, widths, strict=True)
        ]
        table.add_row(*(Text("\n").join(column) for column in lines))
    return table


def _example(example: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """The lines of one user: history, list and targets."""
    found = (example.get("recommendations") or {}).get(REFERENCE) or []
    targets = str(example.get("target") or "").split(" / ")
    more = len(targets) - _MOST_TARGETS
    return (
        [_line(title) for title in example.get("history") or []],
        [(HIT if item.get("hit") else MISS) + _line(item.get("title")) for item in found],
        [_line(target) for target in targets[:_MOST_TARGETS]] + ([f"and {more} more"] if more > 0 else []),
    )


def _line(title: Any) -> str:
    return one_line(" ".join(title_text(title).split()))


def _fit(widths: Sequence[int], available: int) -> list[int]:
    """Widths of columns that fit together: only the widest give way."""
    fitted = list(widths)
    while sum(fitted) > available and max(fitted) > _FEWEST:
        widest = max(fitted)
        fitted[fitted.index(widest)] = widest - 1
    return fitted


def _cut(text: str, width: int) -> str:
    """A text of at most so many columns; what stands in brackets at its end stays: a year, or an item's id."""
    if cell_len(text) <= width:
        return text
    head, tail = text, ""
    if (bracketed := re.search(r" \([^()]+\)$", text)) and cell_len(bracketed.group()) <= width // 2:
        head, tail = text[: bracketed.start()], bracketed.group()
    return set_cell_size(head, width - cell_len(tail) - 1).rstrip() + "…" + tail
