"""Ranked lists from a file, of a run or of another system, in the form that is scored, and what was odd in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.files import Advice
from plum.data.logs import read_table
from plum.data.rows import absent, as_text, to_numbers, warn
from plum.data.tables import RowProblem, refuse_many_problems
from plum.errors import PlumError
from plum.evaluation.rankings import NO_ITEM, flatten

RETRIEVER = "retriever"
_COLUMNS = ("user_id", "rank", "item_id")
_ADVICE = Advice("give the columns user_id, rank and item_id, and score if there is one", "save the file as UTF-8")
MAX_UNREADABLE = 0.01
"""Share of a file's rows that may be unreadable."""
_MISSING = -2  # beside NO_ITEM: no id at all, where NO_ITEM is an id that is not known

# What can be odd, each with the unit it is counted in: rows of the file, lists (of users), or places of lists.
_SENTENCES = {
    "missing_users": "Rows without a user are left out",
    "unknown_users": "Rows of users that the test does not ask for are left out",
    "missing_ranks": "Rows whose rank is missing or no whole number are left out",
    "low_ranks": "Rows ranked below 1 are taken as ranked 1, and rows after them move down as far as they must (ranks "
    "count from 1)",
    "unsorted": "Lists whose rows do not stand in order of rank are put in order",
    "duplicated_ranks": "Rows whose rank is taken by another row of the list are put after it by score, then by item "
    "id, and rows after them move down as far as they must",
    "cut": "Rows that come after place {k} are not scored",
    "gaps": "Places that no row fills, with a filled one after them, count as misses",
    "missing_items": "Places whose row names no item count as misses",
    "unknown_items": "Places with an item that the catalogue lacks count as misses",
    "repeated_items": "Places that repeat an item of the same list count as misses, its first place alone can be a hit",
    "short": "Lists that end before place {k} miss in the rest",
    "no_list": "Users without a list miss in all {k} places",
}


@dataclass(frozen=True)
class Audit:
    """What was odd in lists, and what was made of it.

    Attributes:
        k: places of a list.
        counts: kind -> how often, of every kind there is, 0 included. Rows: ``missing_users``, ``unknown_users``,
            ``missing_ranks``, ``low_ranks``, ``duplicated_ranks``, ``cut``. Lists: ``unsorted``, ``short``,
            ``no_list``. Places of lists: ``gaps``, ``missing_items``, ``unknown_items``, ``repeated_items``.
        examples: kind -> the first one, for kinds that occur.
    """

    k: int
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def explain(self) -> list[str]:
        """One sentence for each kind that occurs: what was done, how often, and the first case."""
        return [
            f"{sentence.format(k=self.k)}: {self.counts[kind]:,} (first: {self.examples[kind]})."
            for kind, sentence in _SENTENCES.items()
            if self.counts.get(kind)
        ]


def read_recommendations(path: Path) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Read ranked lists from Parquet, CSV, TSV or JSON Lines; text may be compressed (.gz).

    Args:
        path: a table with ``user_id``, ``rank`` and ``item_id``, one row a recommended item, and perhaps ``score`` and
            ``retriever``; other columns are not read.

    Returns:
        rows: as in the file: ``retriever`` (if there), ``user_id`` and ``item_id`` as categories of trimmed text (12
            and 12.0 are "12"), ``rank`` and ``score`` (if there) float64. Missing values stay missing, and what is no
            number is missing.
        unreadable: rows that are not among them, such as CSV lines with too many fields.

    Raises:
        PlumError: a file that is missing, damaged, of another format, lacks a column (the message names those it
            has), has one that can't be ids or numbers, is without rows, or has over 1% unreadable rows.
    """
    rows = read_table(path, {name: name for name in _COLUMNS}, (RETRIEVER, "score"), encoding="utf-8", advice=_ADVICE)
    refuse_many_problems(rows.problems, rows.n_read, MAX_UNREADABLE, "mend the rows")
    warn(rows.problems)
    if not rows.table.num_rows:
        raise PlumError(f"{path} holds no row", "column names alone", "write one row per recommended item")
    labels = rows.labels()
    table: dict[str, Any] = {}
    for name in (RETRIEVER, "user_id", "item_id"):
        if name in rows.table.column_names:
            table[name] = _categories(rows.table.column(name), labels[name])
    for name in ("rank", "score"):
        if name in rows.table.column_names:
            column = rows.table.column(name)
            if pa.types.is_boolean(column.type):
                raise PlumError(f"{labels[name]} holds yes or no", "numbers are expected", "store numbers")
            values, _, bad = to_numbers(column, labels[name])
            table[name] = np.where(bad, np.nan, values)
    return pd.DataFrame(table), rows.problems


def by_retriever(table: pd.DataFrame, source: str) -> dict[str, pd.DataFrame]:
    """Take a table of several retrievers apart.

    Args:
        table: with a column ``retriever``.
        source: what to call the table in a message.

    Returns:
        retriever -> its rows, in the order in which they first occur.

    Raises:
        PlumError: no such column, or rows that name no retriever.
    """
    if RETRIEVER not in table:
        raise PlumError(
            f"{source} has no column 'retriever'", f"columns {', '.join(map(str, table.columns))}", "add it"
        )
    if table[RETRIEVER].isna().any():
        raise PlumError(
            f"{source}: {int(table[RETRIEVER].isna().sum()):,} rows name no retriever",
            f"the first is row {int(np.argmax(table[RETRIEVER].isna().to_numpy())) + 1:,}",
            "name it in every row, or leave the column out for one retriever",
        )
    groups = table.groupby(RETRIEVER, sort=False, observed=True)
    return {str(name): rows.drop(columns=RETRIEVER) for name, rows in groups}


def read_lists(
    table: pd.DataFrame, user_ids: Sequence[str] | np.ndarray, item_ids: Sequence[str] | np.ndarray, k: int
) -> tuple[np.ndarray, Audit]:
    """Ranked lists as catalogue rows: what was shown is scored, in the place where it was shown.

    A row stands in the place that its rank names. More precisely: the rows of a user are put in order of rank, of score
    (highest first, rows without one last) where ranks are equal, then of item id; each row takes the place of its
    rank, or the next one after the row before it if that is further down; ranks below 1 count as 1. So 1, 2, 2, 3 fill
    the places 1 to 4, and 1, 2, 5 leave 3 and 4 empty.

    An empty place is a miss, and so is one with no item, an item that the catalogue lacks, or an item that stands
    further up in the same list; places are never closed up. What comes after place K is cut. Rows without a user, of
    a user who is not asked for, or without a whole number as rank have no place and are left out. Users without a
    row, and lists that end early, miss in the rest. All of this is counted.

    Args:
        table: ``user_id``, ``rank``, ``item_id`` and perhaps ``score``, one row a recommended item, of one retriever.
        user_ids: the U users that are scored, all different.
        item_ids: the N items of the catalogue, all different.
        k: places of a list (K).

    Returns:
        items: int64 (U, K), catalogue rows, ``NO_ITEM`` for a miss, which may stand anywhere; users in the order given;
            no item twice in a row. As :func:`plum.evaluation.metrics.per_user_metrics` takes it.
        audit: what was odd.

    Raises:
        ValueError: k < 1, ids given twice, or several retrievers in one table.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    if RETRIEVER in table and table[RETRIEVER].nunique() > 1:
        raise ValueError("the table holds several retrievers: take it apart with by_retriever")
    rows = _Rows(table, user_ids, item_ids)
    notes = _Notes(rows, k)
    order = _usable(rows, notes)
    place = _places(rows.user[order], rows.rank[order], k)
    notes.rows("cut", order[place > k])
    order, place = order[place <= k], place[place <= k]
    user, item = rows.user[order], rows.item[order]
    notes.rows("missing_items", order[item == _MISSING])
    notes.rows("unknown_items", order[item == NO_ITEM])
    known = np.flatnonzero(item >= 0)
    again = pd.Series(user[known] * len(item_ids) + item[known]).duplicated().to_numpy()
    notes.rows("repeated_items", order[known[again]])
    last = np.zeros(len(user_ids), dtype=np.int64)
    np.maximum.at(last, user, place)
    notes.users("gaps", np.arange(len(user_ids)), times=last - np.bincount(user, minlength=len(user_ids)))
    notes.users("short", np.flatnonzero(rows.listed & (last < k)))
    notes.users("no_list", np.flatnonzero(~rows.listed))
    items = np.full((len(user_ids), k), NO_ITEM, dtype=np.int64)
    good = known[~again]
    items[user[good], place[good] - 1] = item[good]
    return items, notes.audit()


def count_seen(items: np.ndarray, histories: Sequence[np.ndarray]) -> int:
    """Places of lists that hold an item of the user's history.

    Args:
        items: int64 (U, K), catalogue rows, ``NO_ITEM`` for empty places.
        histories: U arrays of catalogue rows.

    Returns:
        How many; 0 for lists that leave seen items out.
    """
    n_items = 1 + max(int(items.max(initial=0)), max((int(row.max(initial=0)) for row in histories), default=0))
    users, seen = flatten(histories, n_items)
    shown = np.arange(len(items))[:, None] * n_items + items
    return int((np.isin(shown, users * n_items + seen) & (items != NO_ITEM)).sum())


class _Rows:
    """The columns of a table (R rows) as numbers.

    Attributes:
        user, item: int64 (R,), places in the ids given; ``NO_ITEM`` for an id that is not among them, ``_MISSING`` for
            none.
        item_order: int64 (R,), the order of item ids as text.
        rank, score: float64 (R,); NaN where there is no rank, ``-inf`` where there is no score.
        whole: bool (R,), rows with a whole number as rank.
        usable: bool (R,), rows of a user who is asked for, with a whole number as rank.
        listed: bool (U,), users with such a row.
    """

    def __init__(self, table: pd.DataFrame, user_ids: Sequence[str] | np.ndarray, item_ids: Sequence[str] | np.ndarray):
        self.table, self.user_ids = table, user_ids
        self.user, _ = _looked_up(table["user_id"], user_ids)
        self.item, self.item_order = _looked_up(table["item_id"], item_ids)
        self.rank = pd.to_numeric(table["rank"], errors="coerce").to_numpy(dtype=np.float64)
        score = pd.to_numeric(table["score"], errors="coerce") if "score" in table else pd.Series(np.zeros(len(table)))
        self.score = score.fillna(-np.inf).to_numpy(dtype=np.float64)
        self.whole = np.isfinite(self.rank) & (self.rank == np.floor(self.rank))
        self.usable = (self.user >= 0) & self.whole
        self.listed = np.bincount(self.user[self.usable], minlength=len(user_ids)) > 0

    def told(self, row: int) -> str:
        """A row for a reader."""
        user, rank, item = (self.table[name].iloc[row] for name in _COLUMNS)
        return f"user {_shown(user)}, rank {_shown(rank)}, item {_shown(item)}"


class _Notes:
    """Gathers an audit."""

    def __init__(self, rows: _Rows, k: int) -> None:
        self._rows, self._k = rows, k
        self._counts: dict[str, int] = dict.fromkeys(_SENTENCES, 0)
        self._examples: dict[str, str] = {}

    def rows(self, kind: str, found: np.ndarray) -> None:
        """Note rows, as their numbers or as a mask (R,); the example is the first of them in the table."""
        found = np.flatnonzero(found) if found.dtype == bool else found
        self._counts[kind] = len(found)
        if len(found):
            self._examples[kind] = self._rows.told(int(found.min()))

    def users(self, kind: str, users: np.ndarray, times: np.ndarray | None = None) -> None:
        """Note users, once each, or as often as ``times`` says; the example is the first in the order of users."""
        users = np.unique(users) if times is None else users[times > 0]
        self._counts[kind] = len(users) if times is None else int(times.sum())
        if len(users):
            self._examples[kind] = f"user {_shown(self._rows.user_ids[int(users[0])])}"

    def audit(self) -> Audit:
        """All that was noted."""
        return Audit(self._k, self._counts, self._examples)


def _looked_up(column: pd.Series, ids: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each id of a column stands in ``ids`` and in the order of all ids of the column, both int64 (R,)."""
    index = pd.Index(np.asarray(ids, dtype=object))
    if not index.is_unique:
        raise ValueError(f"ids are given twice, for example {index[index.duplicated()][0]!r}")
    categories = column.astype("category").cat
    labels = categories.categories.astype(str).to_numpy(dtype=object)
    codes = categories.codes.to_numpy(dtype=np.int64)
    # One more entry at the end, which code -1 (no value) leads to.
    places = np.append(index.get_indexer(labels), _MISSING).astype(np.int64)
    by_text = np.append(np.argsort(np.argsort(labels, kind="stable"), kind="stable"), len(labels)).astype(np.int64)
    return places[codes], by_text[codes]


def _categories(column: pa.ChunkedArray, label: str) -> pd.Categorical:
    """A column of ids (R,) as trimmed text; distinct values alone are looked at, of which there are few."""
    as_text(column.slice(0, 0), label)  # refuses types that can't be ids, some of which can't be encoded either
    encoded = pc.dictionary_encode(column).unify_dictionaries()
    values = as_text(pa.chunked_array([encoded.chunk(0).dictionary]), label)
    # Distinct values may be alike once trimmed; one more entry at the end stands for rows without a value.
    codes, distinct = pd.factorize(pd.Series(values.to_pandas()).mask(absent(values)))
    codes = np.append(codes, -1)
    rows = [pc.fill_null(chunk.indices, len(codes) - 1).to_numpy() for chunk in encoded.chunks]
    return pd.Categorical.from_codes(codes[np.concatenate(rows)], categories=pd.Index(distinct))


def _usable(rows: _Rows, notes: _Notes) -> np.ndarray:
    """The usable rows by user, rank, score and item id; what is left out or out of order is noted."""
    notes.rows("missing_users", rows.user == _MISSING)
    notes.rows("unknown_users", rows.user == NO_ITEM)
    notes.rows("missing_ranks", (rows.user >= 0) & ~rows.whole)
    notes.rows("low_ranks", rows.usable & (rows.rank < 1))
    kept = np.flatnonzero(rows.usable)
    order = kept[np.argsort(rows.user[kept], kind="stable")]
    same_user = np.diff(rows.user[order]) == 0
    steps = np.diff(rows.rank[order])
    notes.users("unsorted", rows.user[order[1:][(steps < 0) & same_user]])
    if ((steps <= 0) & same_user).any():  # sorting by four keys takes longer than all else
        order = kept[np.lexsort((rows.item_order[kept], -rows.score[kept], rows.rank[kept], rows.user[kept]))]
    equal = (np.diff(rows.rank[order]) == 0) & (np.diff(rows.user[order]) == 0)
    notes.rows("duplicated_ranks", order[1:][equal])
    return order


def _places(user: np.ndarray, rank: np.ndarray, k: int) -> np.ndarray:
    """The place of each row: that of its rank, or the next after the row before.

    place(j) = max(rank(j), place(j - 1) + 1) is j plus the highest rank(i) - i of the user's rows i up to j.

    Args:
        user: int64 (R,), ascending.
        rank: (R,) whole numbers, ascending for each user.
        k: places that matter; rows after them get some place beyond.

    Returns:
        int64 (R,), from 1, strictly ascending for each user.

    Example:
        >>> _places(np.zeros(5, dtype=np.int64), np.array([1, 2, 2, 3, 7]), k=10)
        array([1, 2, 3, 4, 7])
    """
    if not len(user):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.append(True, np.diff(user) != 0))
    number = np.arange(len(user)) - np.repeat(starts, np.diff(np.append(starts, len(user)))) + 1
    ahead = np.clip(rank, 1, k + 1).astype(np.int64) - number
    # Users are lifted above each other, further than values can differ, so that one running maximum serves all.
    lift = user * (len(user) + k + 2)
    return np.maximum.accumulate(ahead + lift) - lift + number


def _shown(value: object) -> str:
    """A value of a table for a reader."""
    if value is None or value != value:  # NaN differs from itself
        return "missing"
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return repr(str(value)) if isinstance(value, str) else str(value)
