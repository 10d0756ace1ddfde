"""Which columns of an item table are its id, title, topics, creator and description, and what separates topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plum.data.sample import Sample
from plum.data.tables import ITEM_COLUMNS
from plum.data.topics import likely_separator
from plum.errors import PlumError
from plum.recipes import names
from plum.recipes.columns import Chosen, Roles, Undecided, take_given
from plum.recipes.values import Look, id_text, is_literal_list

DEFAULT_SEPARATOR = "|"
KNOWN_IDS = 0.5
"""Share of the log's items, at least, that an id column of the item table holds."""


def id_sets(sample: Sample, looks: Mapping[str, Look]) -> list[set[str]]:
    """The values of each column that may be the ids of an item table: short, and hardly ever twice."""
    return [
        {id_text(value) for value in sample.columns[seen.name] if value is not None}
        for seen in looks.values()
        if (seen.is_id or seen.kind == "time") and seen.n_distinct >= 0.9 * seen.n_present
    ]


def item_roles(
    sample: Sample, looks: dict[str, Look], given: Mapping[str, str], log_column: str, log_items: set[str]
) -> Roles:
    """Find the columns of an item table.

    Args:
        sample: its first rows.
        looks: at each of its columns.
        given: our name -> column, as the user decided.
        log_column: what the log calls the item.
        log_items: ids of items in the log.

    Raises:
        PlumError: for given columns that don't fit, and a column of one of our names that can't be read as such.
    """
    roles = Roles(looks)
    _refuse_nested(sample, looks)
    take_given(roles, given, ITEM_COLUMNS, sample.path.name, "--item-column")
    if "item_id" not in roles.chosen:
        _choose_id(roles, sample, looks, log_column, log_items)
    for role, known in names.FIELDS.items():
        if role in roles.chosen:
            continue
        for wanted in known:
            fitting = [seen for seen in looks.values() if names.plain(seen.name) == wanted]
            fitting = [seen for seen in fitting if seen.name not in roles.taken and _fits(role, seen)]
            if fitting:
                roles.chosen[role] = Chosen(fitting[0], "its name")
                break
    return roles


def topic_separator(values: Sequence[Any]) -> str:
    """What separates the topics that stand in one text; the default if nothing does, or they are lists."""
    texts = [value for value in values if isinstance(value, str) and value.strip() and not is_literal_list(value)]
    return likely_separator(texts) or DEFAULT_SEPARATOR


def _fits(role: str, seen: Look) -> bool:
    further = {"topics": ("object",), "creator": ("integer",)}
    return seen.kind in ("text", "list", *further.get(role, ()))


def _refuse_nested(sample: Sample, looks: Mapping[str, Look]) -> None:
    """Ids can't be lists, and content can't be objects; a column of our names is read whether or not it is mapped."""
    for name, kinds in {"item_id": ("list", "object"), **dict.fromkeys(ITEM_COLUMNS[1:], ("object",))}.items():
        if name in looks and looks[name].kind in kinds and name != "topics":
            raise PlumError(
                f"{sample.path.name}: {name!r} holds {'lists' if looks[name].kind == 'list' else 'objects'}",
                looks[name].example,
                f"write it as one text each, or give the column another name than {name}",
            )


def _choose_id(roles: Roles, sample: Sample, looks: Mapping[str, Look], log_column: str, log_items: set[str]) -> None:
    """The id column: one that holds the log's items, by name if there are several."""
    ranks: dict[str, tuple[int, float]] = {}
    for seen in looks.values():
        if seen.kind not in ("integer", "text", "number", "time") or not seen.n_present:
            continue
        there = {id_text(value) for value in sample.columns[seen.name] if value is not None}
        share = len(there & log_items) / max(1, len(log_items))
        rank = names.id_rank(seen.name, names.ITEM_NOUNS, "item_id")
        rank = 8 if rank is None else rank + 1
        if names.plain(seen.name) == names.plain(log_column):
            rank = 0
        elif names.plain(seen.name) == "id":
            rank = 1
        if share >= KNOWN_IDS or rank < 8:
            ranks[seen.name] = (rank if share >= KNOWN_IDS else rank + 10, share)
    if not ranks:
        found = f"no column holds the ids that the log has in {log_column!r}"
        roles.undecided.append(Undecided("item_id", [seen for seen in looks.values() if seen.is_id], found))
        return
    best = [name for name, (rank, _) in ranks.items() if rank == min(rank for rank, _ in ranks.values())]
    if len(best) > 1:
        roles.undecided.append(
            Undecided("item_id", [looks[name] for name in best], f"{len(best)} columns look like the item's id")
        )
        return
    share = ranks[best[0]][1]
    roles.chosen["item_id"] = Chosen(looks[best[0]], f"it holds {share:.0%} of the log's items in the sample")
